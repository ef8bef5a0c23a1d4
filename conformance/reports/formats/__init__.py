"""Reports for programs: JUnit, Allure, CTRF, KTAP, a line of JSON for each case."""
