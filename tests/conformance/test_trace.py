"""conformance.vfs.trace: what it reads from tracefs, and what it leaves out."""

from __future__ import annotations

from conformance.vfs.trace import by_phase, parse

HEADER = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 6/6   #P:1\n"
LINE = "          python3-312     [000] .....    17.100200: {}\n"


def trace(*events: str) -> str:
    """The events as tracefs prints them; an event of another task begins with its number and a colon."""
    return HEADER + "".join(line(e) for e in events)


def line(event: str) -> str:
    task, colon, said = event.partition(":")
    if colon and task.isdigit():
        return LINE.replace("python3-312", f"kworker/u2:1-{task}").format(said)
    return LINE.format(event)


def request(name: str, tag: int) -> str:
    return f"9p_client_req: client 18446612682087796736 request {name} tag  {tag}"


def reply(name: str, tag: int, error: int = 0) -> str:
    return f"9p_client_res: client 18446612682087796736 response {name} tag  {tag} err {error}"


def test_requests_in_order_and_counted() -> None:
    crossed = parse(
        trace(request("P9_TWALK", 0), reply("P9_RWALK", 0), request("P9_TGETATTR", 0), request("P9_TWALK", 1))
    )
    assert crossed.messages == ("Twalk", "Tgetattr", "Twalk")
    assert crossed.counts == {"Twalk": 2, "Tgetattr": 1}
    assert not crossed.lost


def test_a_refusal_is_shown_with_its_errno() -> None:
    crossed = parse(trace(request("P9_TWALK", 3), reply("P9_TWALK", 3, -2)))
    assert crossed.messages == ("Twalk -> ENOENT",)


def test_replies_find_their_request_by_tag() -> None:
    crossed = parse(
        trace(request("P9_TREAD", 1), request("P9_TWRITE", 2), reply("P9_TREAD", 1, -5), reply("P9_RWRITE", 2))
    )
    assert crossed.messages == ("Tread -> EIO", "Twrite")


def test_what_the_suite_itself_asked_is_left_out() -> None:
    crossed = parse(
        trace(
            request("P9_TSETATTR", 0),
            "tracing_mark_write: assay9 begin",
            request("P9_TGETATTR", 0),
            reply("P9_RGETATTR", 0),
            "tracing_mark_write: assay9 end",
            request("P9_TCLUNK", 0),
        )
    )
    assert crossed.messages == ("Tsetattr", "Tclunk")
    assert crossed.missing(("Tgetattr",)) == ("Tgetattr",)


def test_missing_names_what_did_not_cross() -> None:
    crossed = parse(trace(request("P9_TWALK", 0)))
    assert crossed.missing(("Twalk",)) == ()
    assert crossed.missing(("Twalk", "Tlock", "Tread")) == ("Tlock", "Tread")


def test_an_empty_trace_and_a_lost_one() -> None:
    assert parse("").counts == {}
    assert parse(HEADER + "CPU:0 [LOST 17 EVENTS]\n" + LINE.format(request("P9_TREAD", 0))).lost


def test_only_the_first_four_hundred_are_kept_all_are_counted() -> None:
    crossed = parse(trace(*[request("P9_TREAD", 0)] * 1000))
    assert len(crossed.messages) == 400
    assert crossed.counts == {"Tread": 1000}


def call(number: int) -> str:
    return f"tracing_mark_write: assay9 call {number}"


class TestCalls:
    """Each message has the call that caused it and the errno that the server answered."""

    def test_in_order_and_with_what_was_refused(self) -> None:
        crossed = parse(
            trace(
                call(7),
                request("P9_TWALK", 0),
                reply("P9_RWALK", 0),
                request("P9_TLOPEN", 0),
                reply("P9_TLOPEN", 0, -13),
                call(9),
                request("P9_TGETATTR", 0),
                reply("P9_RGETATTR", 0),
            )
        )
        assert crossed.by_call == {7: ("Twalk", "Tlopen -> EACCES"), 9: ("Tgetattr",)}
        assert crossed.numbered
        assert crossed.refused(7, "EACCES") == {"Tlopen"} and not crossed.refused(7, "EPERM")
        assert not crossed.refused(9, "EACCES") and not crossed.refused(8, "EACCES")
        assert crossed.messages == ("Twalk", "Tlopen -> EACCES", "Tgetattr")

    def test_the_suite_s_own_calls_are_none_of_the_case_s(self) -> None:
        crossed = parse(trace(call(7), request("P9_TREAD", 0), call(0), request("P9_TREAD", 0)))
        assert crossed.by_call == {7: ("Tread",)} and crossed.counts == {"Tread": 2}

    def test_of_two_processes_each_has_its_own(self) -> None:
        crossed = parse(
            trace(
                call(7),
                f"55:{call(8)}",
                request("P9_TLOCK", 0),
                "55:" + request("P9_TWRITE", 1),
                "99:" + request("P9_TWRITE", 2),
                "99:" + reply("P9_TWRITE", 2, -28),
                reply("P9_RLOCK", 0),
                "55:" + reply("P9_TWRITE", 1, -5),
            )
        )
        assert crossed.by_call == {7: ("Tlock",), 8: ("Twrite -> EIO",)}
        assert crossed.messages == ("Tlock", "Twrite -> EIO", "Twrite -> ENOSPC")

    def test_a_comparison_of_one_process_hides_nothing_of_another(self) -> None:
        crossed = parse(
            trace(
                "tracing_mark_write: assay9 begin",
                request("P9_TGETATTR", 0),
                f"55:{call(8)}",
                "55:" + request("P9_TWRITE", 1),
                "tracing_mark_write: assay9 end",
            )
        )
        assert crossed.by_call == {8: ("Twrite",)} and crossed.counts == {"Twrite": 1}

    def test_many_messages_of_a_call_are_cut_but_not_the_refused(self) -> None:
        events = [event for n in range(60) for event in (request("P9_TREAD", 0), reply("P9_TREAD", 0, -5 * (n == 59)))]
        said = parse(trace(call(7), *events)).by_call[7]
        assert len(said) == 41 and said[-1] == "Tread -> EIO"

    def test_a_trace_without_calls_says_so(self) -> None:
        assert not parse(trace(request("P9_TREAD", 0))).numbered


def phase(name: str) -> str:
    return f"tracing_mark_write: assay9 phase {name}"


def test_a_benchmark_s_requests_are_counted_by_phase_whatever_task_sent_them() -> None:
    said = trace(
        request("P9_TCLUNK", 9),
        phase("around"),
        request("P9_TWALK", 1),
        phase("timed"),
        request("P9_TGETATTR", 2),
        f"77:{request('P9_TGETATTR', 3)}",
        reply("P9_TGETATTR", 2),
        phase("none"),
        request("P9_TCLUNK", 4),
    )
    assert by_phase(said) == {"around": {"Twalk": 1}, "timed": {"Tgetattr": 2}, "none": {"Tclunk": 1}}
    assert by_phase(trace(request("P9_TWALK", 1))) is None, "no phase was noted"
    assert by_phase(said + "CPU:0 [LOST 12 EVENTS]\n") is None
