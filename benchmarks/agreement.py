"""How far the verifier of a run agrees with one that knows the answers, from what stands on disk.

    python benchmarks/agreement.py runs/self_play                     # by the maths verifier
    python benchmarks/agreement.py runs/mine --verifier exact --options '{}'

What `verify.observer` writes to metrics.json, for rounds that have not come so far and for runs that named none:
nothing of the run is changed. Every sample with a verdict is judged once more; a problem without a reference answer by
the value of the sum that its text states, if it states one.
"""

from __future__ import annotations

import argparse
import json

from flywheel import store
from flywheel.agreement import agreement, as_observed, proposed_measures
from flywheel.recipe import VerifySection
from flywheel.run import Run
from flywheel.types import Sample, Verdict
from flywheel.verify import VerifierPool


def main() -> None:
    """Read the command line, judge, print one JSON object a round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--verifier", default="math")
    parser.add_argument("--options", type=json.loads, default={"last_number": True}, help="the verifier's, as JSON")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    run = Run.load(arguments.run)
    section = VerifySection(verifier=arguments.verifier, options=arguments.options, workers=arguments.workers)
    with VerifierPool(section) as pool:
        for scope in run.rounds():
            if "verify" not in scope.manifest.entries():
                continue
            samples = store.read_rows(scope.folder / "samples.parquet", Sample)
            verdicts = {v.sample_id: v for v in store.read_rows(scope.folder / "verdicts.parquet", Verdict)}
            asked = {s.problem_id: as_observed(run.problem_by_id[s.problem_id], section.verifier) for s in samples}
            known = [s for s in samples if asked[s.problem_id] is not None]
            found = pool.submit([p for p in asked.values() if p is not None], known).result()
            observed = {v.sample_id: v for v in found}
            proposed = [p.id for p in run.proposed_problems.get(scope.round or 0, [])]
            told = {
                "round": scope.round,
                "observed": agreement(samples, verdicts, observed),
                "proposed": proposed_measures(proposed, samples, verdicts, observed),
            }
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
