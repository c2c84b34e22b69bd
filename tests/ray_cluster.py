"""A real Ray cluster on this machine, for tests: `python -m tests.ray_cluster`.

It says its address and the folder of its logs. A line `add` on stdin brings a further node, `kill`
ends that node at once, with all its processes; the end of stdin ends the cluster.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from tests.threshold_batch import ThresholdAnalyser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.prediction import Prediction
    from medmtl.core.study import Study
    from medmtl.core.volume import Volume

SMALL: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


class _Deadly(ThresholdAnalyser):
    """Ends its process at one case, as the system does where memory is short."""

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        if study.case_id == "case02":
            os._exit(1)
        return super().analyse(study, volumes)


def deadly(device: str) -> ThresholdAnalyser:
    """What `run_on_ray` loads."""
    del device
    return _Deadly()


def main() -> None:
    """Each node has one core and so one worker."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=SMALL | {"include_dashboard": False})
    print(cluster.address, cluster.head_node.get_session_dir_path(), flush=True)
    further: list[Any] = []
    for line in sys.stdin:
        if line.strip() == "add":
            further.append(cluster.add_node(**SMALL))
        else:
            cluster.remove_node(further.pop(), allow_graceful=False)
        print(line.strip(), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
