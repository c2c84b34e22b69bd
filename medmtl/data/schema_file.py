"""`manifest.toml`: what the data set is, its segments and its findings."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from medmtl.core.labels import Code, FindingSpec, LabelSchema, SegmentSpec

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.data.cases import Manifest

__all__ = ["Header", "header_text", "read_header"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Code(_Strict):
    value: str
    meaning: str
    scheme: str = "SCT"
    modifier: _Code | None = None

    def build(self) -> Code:
        modifier = self.modifier.build() if self.modifier else None
        return Code(self.value, self.meaning, self.scheme, modifier)


class _Segment(_Strict):
    label: Annotated[int, Field(ge=1, le=65535)]
    name: Name
    code: _Code | None = None
    is_lesion: bool = False


class _Finding(_Strict):
    name: Name
    code: _Code | None = None
    segments: tuple[Name, ...] = ()
    requires_segment: Name | None = None


class Header(_Strict):
    """The fields of `manifest.toml`."""

    schema_version: Annotated[int, Field(ge=1, le=1)] = 1
    name: str
    licence: str
    citation: str
    source: str
    modality: str = ""
    findings_exclusive: bool = False
    segments: tuple[_Segment, ...] = ()
    findings: tuple[_Finding, ...] = ()

    def label_schema(self) -> LabelSchema:
        """Segments in label order and findings in file order."""
        segments = sorted(self.segments, key=lambda segment: segment.label)
        return LabelSchema(
            segments=tuple(
                SegmentSpec(s.label, s.name, s.code.build() if s.code else None, s.is_lesion)
                for s in segments
            ),
            findings=tuple(
                FindingSpec(
                    f.name, f.code.build() if f.code else None, f.segments, f.requires_segment
                )
                for f in self.findings
            ),
            findings_exclusive=self.findings_exclusive,
        )


def read_header(path: Path) -> tuple[Header | None, list[str]]:
    """The header and what is wrong with it; None where it cannot be used at all."""
    try:
        header = Header.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None, [f"{path.name}: file not found"]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return None, [f"{path.name}: cannot be read as TOML ({error})"]
    except ValidationError as error:
        return None, [
            f"{path.name}: {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
    return header, [f"{path.name}: {problem}" for problem in _contradictions(header)]


def _contradictions(header: Header) -> list[str]:
    names = [segment.name for segment in header.segments]
    problems = [
        *_twice("segment label", [segment.label for segment in header.segments]),
        *_twice("segment name", names),
        *_twice("finding name", [finding.name for finding in header.findings]),
    ]
    for finding in header.findings:
        required = (finding.requires_segment,) if finding.requires_segment else ()
        problems += [
            f"finding '{finding.name}' refers to the unknown segment '{name}'"
            for name in (*finding.segments, *required)
            if name not in names
        ]
    return problems


def _twice(what: str, values: list[Any]) -> list[str]:
    return [
        f"{what} {value} occurs twice" for value in sorted(set(values)) if values.count(value) > 1
    ]


def header_text(manifest: Manifest) -> str:
    """The text of `manifest.toml`."""
    schema = manifest.schema
    keys = ("name", "licence", "citation", "source", "modality")
    lines = [
        "schema_version = 1",
        *(f"{key} = {_quoted(getattr(manifest, key))}" for key in keys),
        f"findings_exclusive = {str(schema.findings_exclusive).lower()}",
    ]
    for segment in schema.segments:
        lines += ["", "[[segments]]", f"label = {segment.label}", f"name = {_quoted(segment.name)}"]
        lines += _code_line(segment.code)
        lines += ["is_lesion = true"] if segment.is_lesion else []
    for finding in schema.findings:
        lines += ["", "[[findings]]", f"name = {_quoted(finding.name)}", *_code_line(finding.code)]
        if finding.segments:
            lines.append(f"segments = [{', '.join(_quoted(name) for name in finding.segments)}]")
        if finding.requires_segment:
            lines.append(f"requires_segment = {_quoted(finding.requires_segment)}")
    return "\n".join(lines) + "\n"


def _code_line(code: Code | None) -> list[str]:
    return [f"code = {_code_table(code)}"] if code else []


def _code_table(code: Code) -> str:
    fields = (("value", code.value), ("meaning", code.meaning), ("scheme", code.scheme))
    inside = [f"{key} = {_quoted(value)}" for key, value in fields]
    inside += [f"modifier = {_code_table(code.modifier)}"] if code.modifier else []
    return f"{{ {', '.join(inside)} }}"


def _quoted(text: str) -> str:
    """A TOML basic string; JSON escapes the same characters, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
