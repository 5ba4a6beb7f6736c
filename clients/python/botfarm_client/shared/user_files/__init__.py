"""Files of users, as spreadsheets, password managers and programs write them."""
