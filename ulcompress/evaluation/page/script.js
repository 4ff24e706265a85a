<!-- results.json -->
