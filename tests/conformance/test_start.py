"""A signal that arrives while a deployment is made: the deployment is still stopped."""

from __future__ import annotations

from tests.guests.test_signals import ends


def test_a_deployment_that_is_being_made_is_stopped() -> None:
    """Its scratch directory is claimed before there is a deployment to stop."""
    status, said = ends("""
        from types import SimpleNamespace
        from conformance.run import start
        def made(*_):
            print("half made")
            send("SIGINT")
            print("made")
            return SimpleNamespace(start=lambda: print("started"), stop=lambda: print("stopped"))
        start.kind_of = lambda target: SimpleNamespace(deployment=made)
        signals.install(); signals.working()
        try:
            start.start(SimpleNamespace(target=None), None, print, "main", "first", "vfs")
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert (status, said) == (0, "half made\nmade\nstopped\ninterrupted\n")
