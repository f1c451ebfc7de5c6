# METADATA
# title: Writes
# description: Writes that touch every row are denied.
package sallyport.writes

# METADATA
# description: A write, also one inside WITH, without a condition on a column.
deny contains {"id": "writes.unbounded", "message": sprintf("%s without a WHERE on a column of the table", [statement.verb])} if {
	some statement in input.command.statements
	statement.class == "write"
	not statement.bounded
}
