"""Real train commands that kill themselves, SIGKILL, at named points, and are then given again with --resume.

`python -m tests.killing FOLDER MODE ARGUMENT…` imports all that training needs once, with one thread, and forks every
command from there: some dozen kills then cost what they train, not some dozen imports of torch. What a command says
goes to FOLDER/NAME.log, how each ended is printed as JSON: {name: [exit status of each command]}.
"""

import json
import os
import signal
import sys
import traceback
from functools import partial
from pathlib import Path

import torch
import torch.utils.tensorboard
from lightning.fabric.loggers.csv_logs import _ExperimentWriter

import genomic_vit.evaluation.summary
import genomic_vit.run_training
from genomic_vit.cli import run_config_parser
from genomic_vit.data import prepare
from genomic_vit.train import main as train
from genomic_vit.training import fit
from genomic_vit.training.average import RecentAverage
from genomic_vit.training.checkpoints import WholeCheckpoints
from genomic_vit.training.module import StageModule
from genomic_vit.training.run_folder import RunFolder


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def call(owner, name, passage=1, *, after=False):
    """Be killed as `owner.name` is called for the nth time, or as it returns."""
    known, passed = getattr(owner, name), []

    def deadly(*given, **named):
        passed.append(name)
        if len(passed) == passage and not after:
            kill()
        result = known(*given, **named)
        if len(passed) == passage:
            kill()
        return result

    setattr(owner, name, deadly)


def rename(file, when, stage="", passage=1):
    """Be killed as `file` is put in its place: when it was written by half, as a whole, or had just been put there."""
    known, passed = os.replace, []

    def deadly(source, target, **named):
        target = Path(target)
        if target.name == file and stage in ("", target.parent.name):
            passed.append(file)
        met = target.name == file and len(passed) == passage
        if met and when == "half":
            os.truncate(source, os.stat(source).st_size // 2)
        if met and when != "after":
            kill()
        known(source, target, **named)
        if met:
            kill()

    os.replace = deadly


JOINT = {  # name → what kills each command in turn
    "as its cases are prepared": [partial(call, prepare, "_prepare_case", 3)],
    "config.yaml written by half": [partial(rename, "config.yaml", "half")],
    "split.csv written by half": [partial(rename, "split.csv", "half")],
    "step of epoch 1": [partial(call, StageModule, "training_step", 4)],
    "validation of epoch 0": [partial(call, StageModule, "validation_step")],
    "validation of epoch 1 judged": [partial(call, StageModule, "on_validation_epoch_end", 2, after=True)],
    "best.ckpt by half": [partial(rename, "best.ckpt", "half")],
    "between best.ckpt and epoch_0.ckpt": [partial(rename, "best.ckpt", "after")],
    "epoch_1.ckpt by half": [partial(rename, "epoch_1.ckpt", "half")],
    "epoch_1.ckpt in its place, losses not logged": [partial(rename, "epoch_1.ckpt", "after")],
    "epoch_0.ckpt not removed": [partial(call, WholeCheckpoints, "remove_checkpoint")],
    "last epoch's in its place, losses not logged": [partial(rename, "epoch_2.ckpt", "after")],
    "trained, not marked": [partial(rename, "done", "before")],
    "marked": [partial(rename, "done", "after")],
    "model.safetensors by half": [partial(rename, "model.safetensors", "half")],
    "predictions.csv by half": [partial(rename, "predictions.csv", "half")],
    "metrics.json by half": [partial(rename, "metrics.json", "half")],
    "complete": [partial(rename, "metrics.json", "after")],
    "three times": [
        partial(call, StageModule, "training_step", 4),
        partial(rename, "epoch_1.ckpt", "half"),
        partial(call, RunFolder, "save_model"),
    ],
}
STAGED = {
    "first stage": [partial(call, StageModule, "training_step", 4)],
    "first not marked": [partial(rename, "done", "before", stage="vit")],
    "between the stages": [partial(rename, "done", "after", stage="vit")],
    "second stage": [partial(call, StageModule, "training_step", 10)],
    "validation of the second": [partial(call, StageModule, "on_validation_epoch_end", 5)],
    "epoch_1.ckpt of the second": [partial(rename, "epoch_1.ckpt", "half", stage="cnn")],
}
STOPPED_EARLY = {
    "last epoch in its place": [partial(rename, "epoch_1.ckpt", "after")],
    "not marked": [partial(rename, "done", "before")],
}
MORE_JOINT = {
    "environment.json written": [partial(rename, "environment.json", "before")],
    "begun, not trained": [partial(rename, "split.csv", "after")],
    "first step": [partial(call, StageModule, "training_step")],
    "after the optimizer's step": [partial(call, RecentAverage, "on_train_batch_end", 3)],
    "epoch_0.ckpt by half": [partial(rename, "epoch_0.ckpt", "half")],
    "epoch_1.ckpt not in its place": [partial(rename, "epoch_1.ckpt", "before")],
    "logging epoch 1": [partial(call, _ExperimentWriter, "save", 3)],
    "judging": [partial(call, genomic_vit.run_training, "evaluate_cohort")],
    "always as an epoch is kept": [
        partial(rename, "epoch_0.ckpt", "after"),
        partial(rename, "epoch_1.ckpt", "after"),
        partial(rename, "epoch_2.ckpt", "after"),
    ],
}
MORE_STAGED = {
    "best.ckpt of the first": [partial(rename, "best.ckpt", "half", stage="vit")],
    "reading the first's best": [partial(call, fit, "read_best")],
    "second stage's first step": [partial(call, StageModule, "training_step", 7)],
    "second not marked": [partial(rename, "done", "before", stage="cnn")],
    "both stages": [
        partial(rename, "epoch_1.ckpt", "after", stage="vit"),
        partial(rename, "best.ckpt", "after", stage="cnn"),
    ],
}
POINTS = {
    "joint": JOINT,
    "staged": STAGED,
    "stopped early": STOPPED_EARLY,
    "joint, more": MORE_JOINT,
    "staged, more": MORE_STAGED,
}


def run(arguments, log, deadly=None):
    """Exit status of one command, forked from here."""
    child = os.fork()
    if not child:
        code = 99
        try:
            place = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(place, 1)
            os.dup2(place, 2)
            if deadly:
                deadly()
            code = train(arguments)
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder, kind, *arguments):
    torch.set_num_threads(1)
    run_config_parser("", "")
    folder, ended = Path(folder), {}
    ended["whole"] = [run([*arguments, "--out", str(folder / "whole")], folder / "whole.log")]
    for name, kills in POINTS[kind].items():
        given = [*arguments, "--out", str(folder / name), "--resume"]
        ended[name] = [run(given, folder / f"{name}.log", deadly) for deadly in [*kills, None]]
    print(json.dumps(ended))


if __name__ == "__main__":
    main(*sys.argv[1:])
