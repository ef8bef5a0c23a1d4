"""What a run leaves: the record (collected while it runs) and the reports (derived from it afterwards).

`models` and `record` collect; `gate`, `junit`, `allure`, `html` and `text` present, from a `Record` alone.
Nothing here imports targets, guests' machines or pytest.
"""
