"""conformance.trace: what is read from tracefs, and what is left out."""

from __future__ import annotations

from conformance.trace import parse

HEADER = "# tracer: nop\n#\n# entries-in-buffer/entries-written: 6/6   #P:1\n"
LINE = "          python3-312     [000] .....    17.100200: {}\n"


def trace(*events: str) -> str:
    """Those events as tracefs prints them."""
    return HEADER + "".join(LINE.format(e) for e in events)


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
