# METADATA
# title: Shape
# description: |
#   Every other rule reads fields that are there. An input or data that lacks one is denied here, since a missing field
#   makes a rule undefined, and an undefined rule denies nothing.
package sallyport.shape

_classes := {"read", "write", "ddl", "dcl", "transaction", "session", "utility"}

_uses := {"output", "derived", "predicate", "order", "write"}

_statement(statement) if {
	is_string(statement.verb)
	statement.class in _classes
	is_boolean(statement.bounded)
	is_array(statement.features)
	is_array(statement.functions)
	is_array(statement.relations)
	is_array(statement.columns)
	every relation in statement.relations {
		is_string(relation.schema)
		is_string(relation.name)
		is_array(relation.labels)
	}
	every column in statement.columns {
		is_string(column.schema)
		is_string(column.table)
		is_string(column.column)
		is_array(column.labels)
		column.use in _uses
	}
}

_input if {
	input.identity.kind in {"human", "agent"}
	is_array(input.identity.groups)
	is_string(input.identity.email)
	is_string(input.identity.subject)
	is_string(input.target.name)
	is_boolean(input.command.complete)
	is_boolean(input.command.novel)
	is_array(input.command.incomplete)
	is_array(input.command.statements)
	every statement in input.command.statements {
		_statement(statement)
	}
}

_data if {
	is_object(data.targets)
	is_object(data.labels)
	is_array(data.agents.hold)
	is_array(data.agents.deny)
	is_array(data.functions.allow)
	is_array(data.dangerous.exempt)
	is_array(data.dangerous.features)
	is_array(data.dangerous.settings_allowed)
	is_array(data.dangerous.functions)
	is_array(data.dangerous.relations)
	count(data.approvers) > 0
	is_number(data.approvals.count)
	is_string(data.approvals.ttl)
}

# METADATA
# description: A field that the rules read is missing or of another type.
deny contains {"id": "shape.input", "message": "the command's description is not of the form that the rules read"} if not _input

# METADATA
# description: A section of data that the rules read is missing or of another type.
deny contains {"id": "shape.data", "message": "the policy's data lacks a section that the rules read"} if not _data
