# METADATA
# title: Writes
# description: Writes that touch every row are denied.
package sallyport.writes

# METADATA
# description: A write, also one inside WITH, without a condition on a column.
deny contains {
	"id": "writes.unbounded",
	"message": concat("", [statement.verb, " without a WHERE on a column of the table"]),
} if {
	some statement in input.command.statements
	statement.class == "write"
	not statement.bounded
}
