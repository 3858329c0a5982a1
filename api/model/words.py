"""Words that anybody may say: they name nothing of a product."""

from __future__ import annotations

from typing import Final

_COMMON: Final = """
a about above add after again against all almost already also alternatively although always am an and
another any anything are around as ask asked at away back be because been before begin being below besides
best better between both bottom but by came can can't cannot change choose clear click clicked clicking
close come confirm continue could currently did do does doesn't doing don't done down drag drop during
each easier either else end enough enter even every everything fast faster few field fill final finally
find finish finished first follow for found from further get give go goes going good got great had happens
has have haven't having hello help helps her here hi him his hold how however i i'd i'll i'm i've if in
inside instead into is isn't it it'll it's its just keep know last later least leave left let let's like
line list look looks make many may maybe me mean might more most move much must my near need needs never
new next no none not note nothing now of off ok okay on once one ones only open opened opening or other
others our out over own page pages part perhaps pick place please point press pressed put quick quickly
ready really repeat right said same save saw say screen scroll see seem seems select send several shall
she should show shows similar simply since so some something soon sorry start started step steps still
stop such sure switch take tap tell than thank thanks that that's the their them then there there's these
they thing things this those though through time times tip to together too top toward try turn twice type
under until up us use used uses using usually very view visit visited want was way we we'll we're went
were what when whenever where whether which while who whole whose why will with within without work works
would write yes yet you you'd you'll you're you've your yours yourself
"""
COMMON: Final = frozenset(_COMMON.split())
"""Function words, and the plain verbs and nouns of any instruction; lower case."""

UI: Final = (
    "button|tab|menu|link|icon|dialog|panel|checkbox|toggle|dropdown|sidebar|toolbar|wizard|widget|shortcut|"
    "feature|mode|tool|section|setting|settings|option|screen|page|view|field|banner|modal|plugin|extension|app"
)
"""What parts of a product are called: the word before one is a name, unless it is a common word."""
