"""Reports of a run, each derived from its record alone: terminal, text, HTML, JUnit, Allure."""
