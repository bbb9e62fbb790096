"""The REST API: Databricks' shapes, Headrace's own, and the page. Translates; decides nothing."""
