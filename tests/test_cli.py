"""Messages that all commands share name options as train has them; every command that shows them takes those."""

import configparser
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import genomic_vit
from genomic_vit.cli import parse, run_config_parser
from genomic_vit.config import ConfigError, LesionConfig
from genomic_vit.evaluation.plan import BenchmarkConfig

SHARED = ("cohort", "data", "imaging", "models", "training", "evaluation")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*[a-z0-9]")
OF_COMMANDS = {  # named where the command that has them is meant
    "--out", "--cache", "--jobs", "--skip-bad", "--engine",  # train, evaluate and benchmark have them
    "--resume", "--overwrite", "--devices", "--num-nodes", "--strategy", "--profile",  # train
    "--nodes", "--ntasks", "--ntasks-per-node", "--nnodes", "--nproc-per-node",  # srun and torchrun
    "--folds", "--seeds", "--unit", "--reference", "--arms", "--quick", "--run.seed",
    "--run.split.validation",  # benchmark
    "--labels", "--dicom", "--nifti", "--plan", "--download", "--points", "--without-lesion",  # manifest
    "--lesion", "--relevance", "--diagnostics", "--cohort",  # predict and doctor
    "--seed", "--split.folds",  # train, in SplitError; a benchmark says its own
}  # fmt: skip
VALUES = {
    "--device": "cpu", "--field": "lung", "--frame": "ras", "--key": "ID", "--lesion.roi": "2", "--lesions": "each",
    "--min-cases": "3", "--negative": "no", "--on-gap": "resample", "--positive": "yes", "--precision": "64",
    "--roi": "GTV*", "--split.validation": "0.3", "--training.average": "0", "--training.batch_size": "4",
    "--training.learning_rate": "0.01", "--compile": None, "--allow-outcome-columns": None,
}  # fmt: skip


def test_options_that_shared_messages_name_are_taken_by_train_and_by_benchmark():
    named = set()
    for room in SHARED:
        for path in (Path(genomic_vit.__file__).parent / room).glob("*.py"):
            named |= set(OPTION.findall(path.read_text(encoding="utf-8")))
    assert named - OF_COMMANDS == set(VALUES)
    argv = [word for option, value in VALUES.items() for word in (option, value) if word is not None]
    train, benchmark = run_config_parser("", ""), run_config_parser("", "", BenchmarkConfig, "benchmark")
    own = train.instantiate(parse(train, argv))
    run = benchmark.instantiate(parse(benchmark, argv, BenchmarkConfig)).run
    for config in (own, run):
        assert config.device == "cpu" and config.lesion == LesionConfig("ras", "GTV*", field="lung", lesions="each")
        assert config.labels.key == "ID" and config.labels.min_cases == 3 and config.labels.allow_outcome_columns
        assert config.scan.on_gap == "resample" and (config.positive, config.negative) == ("yes", "no")
        assert config.split.validation == 0.3 and config.training.compile and config.training.precision == "64"
        assert (config.training.average, config.training.batch_size, config.training.learning_rate) == (0, 4, 0.01)


def test_train_s_seed_is_not_guessed_to_be_one_of_the_benchmark_s_two():
    parser = run_config_parser("", "", BenchmarkConfig, "benchmark")
    with pytest.raises(ConfigError, match=r"^unknown option --seed; did you mean --seeds\?$"):
        parse(parser, ["--seed", "3"], BenchmarkConfig)


@pytest.mark.parametrize(("trained_with_others", "last_words"), [(True, ""), (False, "taken apart")])
def test_a_process_of_many_leaves_before_python_takes_itself_apart(trained_with_others, last_words):
    """What is taken apart then may be in the hands of a thread of gloo, and torch aborts the process."""
    script = """
        import atexit, os
        from genomic_vit.cli import leave
        class Kept:
            def __del__(self, write=os.write):
                write(1, b"taken apart")
        kept = Kept()
        atexit.register(print, "at exit")
        """
    if trained_with_others:
        script += """
        import torch.distributed as dist
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        """
    script += """
        print("not flushed yet")
        leave(3)
        """
    done = subprocess.run([sys.executable, "-c", dedent(script)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (3, f"not flushed yet\nat exit\n{last_words}", "")


def test_the_console_script_leaves_so_too():
    """As `genomic-vit train --devices 2` ends; a test of what setup.cfg names, since it is what is installed."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    module, _, name = setup["options.entry_points"]["console_scripts"].partition("=")[2].strip().partition(":")
    script = f"""
        import os, sys
        import torch.distributed as dist
        from {module} import {name}
        class Kept:
            def __del__(self, write=os.write):
                write(1, b"taken apart")
        kept = Kept()
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        sys.argv = ["genomic-vit", "trian"]
        sys.exit({name}())
        """
    done = subprocess.run([sys.executable, "-c", dedent(script)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("error: no command 'trian'")


def test_a_process_of_many_leaves_at_once_though_it_had_workers():
    """Those that prepared; they end when nothing was given them for five minutes, or when they are told."""
    script = """
        import torch.distributed as dist
        from joblib import Parallel, delayed
        from genomic_vit.cli import leave
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        print(Parallel(2, backend="loky")(delayed(abs)(number) for number in (-1, 2)))
        leave(3)
        """
    done = subprocess.run([sys.executable, "-c", dedent(script)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (3, "[1, 2]\n")
