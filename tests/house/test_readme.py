"""README's numbers are those of results that are committed."""

import re

from support.pages import ROOT

README = (ROOT / "README.md").read_text()


def test_the_finding_is_what_the_demo_printed() -> None:
    text = (ROOT / "docs" / "demo.md").read_text()
    none, _, gradual = re.findall(r"(\d+\.\d) ± ", re.findall(r"^=> 0\.3 .*$", text, re.M)[0])
    (small,) = re.findall(r"the error to match.*?(\d+\.\d) ± ", text)
    finding = f"{gradual} % test error with a gradual warm-up"
    assert README.count(finding) == 2  # the sentence, and what the picture says
    assert f"{finding} and at {none} % without; minibatches of 50 end at {small} %" in README
    assert f"{finding}, {none} % without" in README
