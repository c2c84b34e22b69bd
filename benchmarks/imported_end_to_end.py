"""The table of `end_to_end` for the same networks imported from nnU-Net: masks only.

`balanced` takes nnU-Net's own windows and is held to torch's figures there, and to equal labels;
`fast` to those of OpenVINO and int8. nnU-Net is the same as in `end_to_end`, and so is what that
has measured of it: `--fresh` measures it anew.
"""

from __future__ import annotations

from benchmarks.end_to_end import EXACT, FULL, INT8, Way, run

WAYS = {
    "imported, balanced": Way(
        "as-nnunet", ("--speed", "balanced", "--backend", "openvino"), EXACT, is_nnunets=True
    ),
    "imported, fast": Way("as-nnunet", ("--speed", "fast", "--backend", "openvino"), FULL),
    "imported, fast, int8": Way("as-nnunet", ("--speed", "fast", "--backend", "int8"), INT8),
}

if __name__ == "__main__":
    run("imported_end_to_end", __doc__ or "", WAYS)
