"""Buildbot, as QEMU's and illumos' builders use it: steps for a BuildFactory of your master.cfg."""

from buildbot.plugins import steps, util

SUITE = "https://example.org/assay9.git"  # where you have the suite from


def add_conformance(
    factory: util.BuildFactory, target: str = "qemu", program: str = "build/qemu-system-x86_64"
) -> None:
    """Add the steps: fetch the suite, run it, keep the results. Exit status 3 (the machine broke) is a retry."""
    factory.addStep(steps.Git(repourl=SUITE, mode="full", workdir="assay9", alwaysUseLatest=True))
    factory.addStep(steps.ShellCommand(command=["./setup.sh"], workdir="assay9", haltOnFailure=True))
    factory.addStep(
        steps.ShellCommand(
            name="virtio-9p",
            command=["../assay9/ci/assay9.sh", target, "--qemu", program, "--limit", "45m"],
            env={
                "ASSAY9": "../assay9/.venv/bin/assay9",
                "ASSAY9_BASELINE": "tests/virtio-9p.baseline.json",
                "ASSAY9_BUILD_ID": util.Property("got_revision"),
                "BUILDBOT_BUILD_URL": util.URLForBuild,
            },
            decodeRC={0: util.SUCCESS, 1: util.FAILURE, 2: util.FAILURE, 3: util.RETRY},
            logfiles={"rti": "results/latest/rti.txt", "summary": "results/latest/summary.md"},
            lazylogfiles=True,
        )
    )
    factory.addStep(steps.DirectoryUpload(workersrc="results", masterdest="assay9", alwaysRun=True))
