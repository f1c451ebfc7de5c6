# METADATA
# title: Shape
# description: |
#   Every other rule reads fields that are there. An input or data that lacks one is denied here, since a missing field
#   makes a rule undefined, and an undefined rule denies nothing.
package sallyport.shape

import data.sallyport.prepared

_classes := {"read", "write", "ddl", "dcl", "transaction", "session", "utility"}

_uses := {"output", "derived", "predicate", "order", "write"}

# A list of strings: of anything else concat is undefined, and so would the messages be that hold one.
_texts(list) if is_string(concat("", list))

_statement(statement) if {
	is_string(statement.verb)
	statement.class in _classes
	is_boolean(statement.bounded)
	_texts(statement.features)
	_texts(statement.functions)
	is_array(statement.relations)
	is_array(statement.columns)
	every relation in statement.relations {
		is_string(relation.schema)
		is_string(relation.name)
		_texts(relation.labels)
	}
	every column in statement.columns {
		is_string(column.schema)
		is_string(column.table)
		is_string(column.column)
		_texts(column.labels)
		column.use in _uses
	}
}

_input if {
	input.identity.kind in {"human", "agent"}
	_texts(input.identity.groups)
	is_string(input.identity.email)
	is_string(input.identity.subject)
	is_string(input.target.name)
	is_boolean(input.command.complete)
	is_boolean(input.command.novel)
	_texts(input.command.incomplete)
	is_array(input.command.statements)
	every statement in input.command.statements {
		_statement(statement)
	}
}

# METADATA
# description: A field that the rules read is missing or of another type.
deny contains {
	"id": "shape.input",
	"message": "the command's description is not of the form that the rules read",
} if not _input

# METADATA
# description: A section of data that the rules read is missing or of another type.
deny contains {
	"id": "shape.data",
	"message": "the policy's data lacks a section that the rules read",
} if not prepared.current.complete
