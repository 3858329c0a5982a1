"""The leaf types: each turns its config into a function from a view to a finding.

`next_change` of a finding is the next instant at which time alone may change the verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from domain import config, sections
from domain.finding import EVIDENCE, Finding, Verdict
from domain.instants import SECOND, seconds
from domain.view import PAGELEAVE, TICK, Matcher, View

Criterion = Callable[[View, int], Finding]
"""From a view, and the version of the trigger's last offer in this session (0: none), to a finding."""


def build(node: config.Node, settings: config.Config, matcher: Matcher, *, erased: bool = False) -> Criterion:
    """The function of a criteria node. `erased`: leaves that ask for personal fields are unknown."""
    if erased and not isinstance(node, config.Group) and reads_personal(node):
        return _unknown(build(node, settings, matcher))
    match node:
        case config.Group():
            return _group(node, settings, matcher, erased)
        case config.Count():
            return _count(node, matcher)
        case config.Absent():
            return _absent(node, matcher)
        case config.Sequence():
            return _sequence(node, matcher)
        case config.CurrentPage():
            return _current_page(node)
        case config.ActionCount():
            return _action_count(node)
        case config.PingPong():
            return _ping_pong(node)
        case config.Dwell():
            return _dwell(node)
        case config.SectionMatch():
            return _section_match(node, settings)
        case config.Predicate():
            return _predicate(node)


def reads_personal(node: config.Node) -> bool:
    """Whether a criterion asks for fields that are stored sealed."""
    match node:
        case config.Group():
            return any(map(reads_personal, node.conditions))
        case config.Count() | config.Absent():
            return bool(node.where.properties)
        case config.Sequence():
            return any(where.properties for where in (*node.steps, *node.without))
        case config.SectionMatch() | config.Predicate():
            return True
        case _:
            return False


def _unknown(criterion: Criterion) -> Criterion:
    """The criterion where what it asks for was erased: what it seems to see is no finding."""

    def evaluate(view: View, used: int) -> Finding:
        seen = criterion(view, used)
        return Finding(seen.type, None, required=seen.required, id=seen.id, name=seen.name, detail="erased")

    return evaluate


def _ids(view: View, indexes: list[int]) -> tuple[str, ...]:
    actions = view.actions
    return tuple([actions[i].event_id for i in indexes[-EVIDENCE:]])


def _all_of(verdicts: list[Verdict]) -> Verdict:
    """Kleene's strong conjunction."""
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _any_of(verdicts: list[Verdict]) -> Verdict:
    """Kleene's strong disjunction."""
    if True in verdicts:
        return True
    return None if None in verdicts else False


def _group(node: config.Group, settings: config.Config, matcher: Matcher, erased: bool) -> Criterion:
    children = [build(child, settings, matcher, erased=erased) for child in node.conditions]
    operator = node.operator
    settles: Verdict = operator != "AND"  # what one condition must be to settle the group

    def evaluate(view: View, used: int) -> Finding:
        if view.brief:
            seen: list[Finding] = []
            for child in children:
                finding = child(view, used)
                seen.append(finding)
                if finding[1] is settles:  # time must change this one first, whatever the others say
                    break
            findings = tuple(seen)
        else:
            findings = tuple([child(view, used) for child in children])
        verdicts = [finding[1] for finding in findings]  # by index: this is the innermost loop
        if operator == "AND":
            verdict = _all_of(verdicts)
        else:
            verdict = _any_of(verdicts)
            if operator == "NOT":
                verdict = None if verdict is None else not verdict
        changes = [finding[5] for finding in findings if finding[5] is not None]
        next_change = min(changes) if changes else None
        return Finding(operator, verdict, None, "", (), next_change, findings, node.id, node.name)

    return evaluate


def _bounds(at_least: int | None, at_most: int | None) -> str:
    if at_most is None:
        return f">= {at_least}"
    return f"<= {at_most}" if at_least is None else f"{at_least} to {at_most}"


def _count(node: config.Count, matcher: Matcher) -> Criterion:
    bit = matcher.bit(node.where)
    low, high, within = node.at_least or 0, node.at_most, node.within
    required = _bounds(node.at_least, high)

    def evaluate(view: View, used: int) -> Finding:
        found = view.matches(bit, view.start(within))
        count = len(found)
        leaving: int | None = None  # index of the action whose leaving changes the verdict
        if high is not None and count > high:
            leaving = found[count - high - 1]
        elif count >= low > 0:
            leaving = found[count - low]
        change = None
        if leaving is not None:
            change = view.actions[leaving].occurred_at + (within or view.lookback) + TICK
        verdict = count >= low and (high is None or count <= high)
        return Finding("count", verdict, count, required, _ids(view, found), change, (), node.id, node.name)

    return evaluate


def _absent(node: config.Absent, matcher: Matcher) -> Criterion:
    bit = matcher.bit(node.where)
    within, whole = node.within, node.session

    def evaluate(view: View, used: int) -> Finding:
        found = view.matches(bit, 0 if whole else view.start(within))
        change = None
        if found and not whole:
            change = view.actions[found[-1]].occurred_at + (within or view.lookback) + TICK
        return Finding(
            "absent", not found, len(found), "0", _ids(view, found), change, (), node.id, node.name
        )

    return evaluate


def _sequence(node: config.Sequence, matcher: Matcher) -> Criterion:
    steps = [matcher.bit(step) for step in node.steps]
    forbidden = 0
    for where in node.without:
        forbidden |= matcher.bit(where)
    within, strict = node.within, node.strict
    required = f"{len(steps)} steps in order"

    def chain(view: View, last: int, earliest: int) -> list[int] | None:
        """The steps that end at `last`, each as late as possible; None where there are none.

        The latest steps span the least, so what lies between them lies between any others too.
        """
        marks = view.marks
        found = [last]
        index = last
        for bit in reversed(steps[:-1]):
            if index != last and marks[index] & forbidden:  # a step, but between the first and the last
                return None
            index -= 1
            if not strict:
                while index >= earliest and not marks[index] & bit:
                    if marks[index] & forbidden:
                        return None
                    index -= 1
            if index < earliest or not marks[index] & bit:
                return None
            found.append(index)
        found.reverse()
        return found

    def evaluate(view: View, used: int) -> Finding:
        span = within or view.lookback
        spent = False
        for last in reversed(view.matches(steps[-1], view.start(within))):
            action = view.actions[last]
            found = chain(view, last, view.since(action.occurred_at - span))
            if found is None:
                continue
            if action.version <= used:  # this last step has made its trigger fire already
                spent = True
                continue
            return Finding(
                "sequence",
                True,
                len(steps),
                required,
                _ids(view, found),
                action.occurred_at + span + TICK,
                (),
                node.id,
                node.name,
            )
        detail = "the last step was used by the trigger's last offer" if spent else None
        progress = _progress(view, steps, view.start(within))
        return Finding(
            "sequence",
            False,
            len(progress),
            required,
            _ids(view, progress),
            None,
            (),
            node.id,
            node.name,
            detail,
        )

    return evaluate


def _progress(view: View, steps: list[int], start: int) -> list[int]:
    """How far the steps have come in the window, for people: the first ones that happened in order."""
    found: list[int] = []
    for bit in steps:
        index = view.next(bit, start)
        if index is None:
            break
        found.append(index)
        start = index + 1
    return found


def _current_page(node: config.CurrentPage) -> Criterion:
    required = " and ".join(
        f"{what} {' or '.join(texts)}"
        for what, texts in (("contains", node.url_contains), ("begins with", node.url_prefix))
        if texts
    )

    def evaluate(view: View, used: int) -> Finding:
        page = view.current_page()
        if page is None or page.url is None:
            return Finding("current_page", False, None, required, (), None, (), node.id, node.name)
        url = page.url.casefold()
        verdict = (not node.url_contains or any(text in url for text in node.url_contains)) and (
            not node.url_prefix or any(url.startswith(text) for text in node.url_prefix)
        )
        return Finding(
            "current_page",
            verdict,
            page.url,
            required,
            (page.event_id,),
            None,
            (),
            node.id,
            node.name,
        )

    return evaluate


def _action_count(node: config.ActionCount) -> Criterion:
    required = f">= {node.at_least}"

    def evaluate(view: View, used: int) -> Finding:
        count = view.hi - view.lo
        change = None
        if count >= node.at_least > 0:
            change = view.actions[view.hi - node.at_least].occurred_at + view.lookback + TICK
        evidence = _ids(view, list(range(max(view.lo, view.hi - EVIDENCE), view.hi)))
        return Finding(
            "action_count",
            count >= node.at_least,
            count,
            required,
            evidence,
            change,
            (),
            node.id,
            node.name,
        )

    return evaluate


def _visits(view: View) -> list[int]:
    """Index of the first action of each page visit in the context window.

    Consecutive actions on one canonical URL are one visit; an action without a URL is no page.
    """
    visits: list[int] = []
    page: str | None = None
    for index in range(view.lo, view.hi):
        url = view.actions[index].url
        if url is not None and url != page:
            visits.append(index)
            page = url
    return visits


def _ping_pong(node: config.PingPong) -> Criterion:
    required = (
        f">= {node.min_cycles} returns A to B to A, "
        f"or >= {node.hesitation_min_distinct} pages with one visited again"
    )

    def evaluate(view: View, used: int) -> Finding:
        visits = _visits(view)
        pages = [view.actions[i].url for i in visits]
        cycles = sum(1 for a, b in zip(pages, pages[2:], strict=False) if a == b)  # neighbours differ already
        distinct = len(set(pages))
        again = distinct < len(pages)
        verdict = cycles >= node.min_cycles or (again and distinct >= node.hesitation_min_distinct)
        observed = {"cycles": cycles, "distinct": distinct, "visited_again": len(pages) - distinct}
        change = view.actions[visits[0]].occurred_at + view.lookback + TICK if visits else None
        return Finding(
            "canonical_url_ping_pong",
            verdict,
            observed,
            required,
            _ids(view, visits),
            change if verdict else None,
            (),
            node.id,
            node.name,
        )

    return evaluate


def _dwell(node: config.Dwell) -> Criterion:
    required = f">= {seconds(node.threshold)} with at most {node.max_actions} actions"

    def finding(view: View, verdict: bool, observed: Any, found: list[int], change: int | None) -> Finding:
        evidence = _ids(view, found)
        return Finding(
            "user_page_dwell",
            verdict,
            observed,
            required,
            evidence,
            change,
            (),
            node.id,
            node.name,
        )

    def evaluate(view: View, used: int) -> Finding:
        visit: list[int] = []  # newest first; one more than allowed is enough to know
        page: str | None = None
        for index in range(view.hi - 1, -1, -1):
            action = view.actions[index]
            if action.url is None:
                continue
            if page is None:
                page = action.url
            if action.url != page or len(visit) > node.max_actions:
                break
            visit.append(index)
        if not visit:
            return finding(view, False, None, [], None)
        newest, first = view.actions[visit[0]], view.actions[visit[-1]]
        visit.reverse()
        dwelt = view.at - first.occurred_at
        observed = {"seconds": dwelt / SECOND, "actions": len(visit)}
        gone = newest.occurred_at + view.lookback + TICK
        if newest.type == PAGELEAVE or len(visit) > node.max_actions or visit[-1] < view.lo:
            return finding(view, False, observed, visit, None)
        if dwelt >= node.threshold:
            return finding(view, True, observed, visit, gone)
        due = first.occurred_at + node.threshold
        return finding(view, False, observed, visit, due if due < gone else None)

    return evaluate


def _section_match(node: config.SectionMatch, settings: config.Config) -> Criterion:
    rows = {row.section_id for row in settings.playbook}
    required = "a section with a playbook row"

    def evaluate(view: View, used: int) -> Finding:
        found = sections.resolve(view.window(), settings, rows)
        change = None  # while no row applies, actions that leave the window cannot make one apply
        if found is not None:
            change = view.actions[view.lo].occurred_at + view.lookback + TICK
        return Finding(
            "section_playbook_match",
            found is not None,
            found.section_id if found else None,
            required,
            found.evidence if found else (),
            change,
            (),
            node.id,
            node.name,
            found.how if found else None,
        )

    return evaluate


def _predicate(node: config.Predicate) -> Criterion:
    def evaluate(view: View, used: int) -> Finding:
        finding = view.predicates(node.predicate, view.window(), view.at)
        return finding._replace(id=node.id, name=node.name)

    return evaluate
