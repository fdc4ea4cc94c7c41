"""Common English words for prompts: most are single tokens of every tokenizer."""

NAMES = """Mary John Tom James Sarah Peter Alice Robert Laura David Emma Henry Anna George Lucy William Kate Charles Jane Paul
Helen Frank Ruth Edward Rose Arthur Clara Walter Ellen Albert Julia Louis Grace Simon Martha Philip Alan Susan Andrew Diana
Daniel Maria Michael Nancy Thomas Rachel Joseph Emily Samuel Sophie Martin Olivia Jack Amy Victor Eva Oscar Hugo Leo Vera Max
Ivan Felix Linda Carl Julie Eric Mark Karen Adam Betty Brian Carol Dennis Edith Fred Harry Justin Lily Kevin Molly Luke Nina
Oliver Ralph Sally Scott Tina Steven Wendy Brandon Jessica Matthew Jennifer Ryan Lisa Jason Michelle Patrick Angela""".split()  # noqa: SIM905
PLACES = """store park school garden office station hospital market church library kitchen beach museum river house farm village
bank castle hotel restaurant airport theater factory""".split()  # noqa: SIM905
OBJECTS = """drink book letter ring key ball flower computer coin hat gift map watch knife lamp box cake pen basket bottle
ticket camera card necklace""".split()  # noqa: SIM905
