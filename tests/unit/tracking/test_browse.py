"""What a reader of the store is shown is what runs, registry and gate wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmtl.tracking.browse import (
    metric_history,
    model_card,
    read_promotions,
    read_runs,
    read_versions,
)
from medmtl.tracking.gate import Evidence, judge
from medmtl.tracking.gate_settings import load_gate
from medmtl.tracking.mlflow_run import start_run
from medmtl.tracking.promotion import record_decision, set_alias
from medmtl.tracking.registry import register
from tests.evidence import CARD, write_evident

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.tracking.mlflow_store import Connection


def test_a_run_is_listed_with_its_last_values_and_its_curve(
    connection: Connection, store: Path
) -> None:
    tracked = start_run(None, experiment="browse", run_name="one", store=store,
                        system_metrics_every_s=0)  # fmt: skip
    tracked.log_config({"lr": 0.1})
    for step, value in ((1, 0.5), (2, 0.7), (3, 0.6)):
        tracked.log_metrics({"val/dice": value}, step=step)
    tracked.close("FINISHED")
    (run,) = (one for one in read_runs(connection) if one.experiment == "browse")
    assert (run.name, run.status, run.metrics["val/dice"]) == ("one", "FINISHED", 0.6)
    assert run.parameters["lr"] == "0.1"
    assert run.seconds is not None
    assert metric_history(connection, run.run_id, "val/dice") == ((1, 0.5), (2, 0.7), (3, 0.6))


def test_a_promotion_is_listed_with_who_and_why(connection: Connection, tmp_path: Path) -> None:
    bundle = write_evident(tmp_path / "b")
    version = register(connection, tmp_path / "b", name="browsed")
    settings = load_gate()
    evidence = Evidence(bundle, bundle.metrics)
    criteria = judge(evidence, None, settings)
    run_id = record_decision(
        connection, version, alias="champion", by="a.lee", why="first one", evidence=evidence,
        criteria=criteria, settings=settings,
    )  # fmt: skip
    set_alias(connection, version, alias="champion", by="a.lee", why="first one", champion=None,
              run_id=run_id)  # fmt: skip
    (found,) = (one for one in read_versions(connection) if one.model == "browsed")
    assert (found.number, found.aliases, found.sha256) == ("1", ("champion",), bundle.sha256)
    assert model_card(connection, found) == CARD
    (decision,) = (one for one in read_promotions(connection) if one.model == "browsed")
    assert (decision.by, decision.why, decision.alias) == ("a.lee", "first one", "champion")
    assert decision.is_passed == all(criterion.is_met for criterion in criteria)
    assert not any(run.experiment == "medmtl-promotions" for run in read_runs(connection))
