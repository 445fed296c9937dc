"""The interfaces that clients know: each module has the fields, the forms and the routes of one of them."""
