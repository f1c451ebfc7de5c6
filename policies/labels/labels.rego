# METADATA
# title: Labels
# description: Labelled columns are masked as bare result columns and denied in any other use, for those who may not see them.
package sallyport.labels

_visible(label) if {
	some group in object.get(data.labels, [label, "show_to"], [])
	group in input.identity.groups
}

_hidden(column) := {label | some label in column.labels; not _visible(label)}

_name(column) := sprintf("%s.%s.%s", [column.schema, column.table, column.column])

_kinds := {"redact", "null", "partial", "hash"}

# A kind that is missing or not known shows nothing.
default _kind(_) := "redact"

_kind(label) := data.labels[label].mask if data.labels[label].mask in _kinds

_copied(statement) if "copy.to.stdout" in statement.features

# METADATA
# description: A bare result column is shown as its labels say.
mask contains {"column": _name(column), "with": _kind(label), "rule": sprintf("labels.%s", [label])} if {
	some statement in input.command.statements
	not _copied(statement)
	some column in statement.columns
	column.use == "output"
	some label in _hidden(column)
}

# METADATA
# description: COPY carries no column identity, so what would be masked is denied.
deny contains {"id": sprintf("labels.%s", [label]), "message": sprintf("COPY may not read %s; SELECT it to get it masked", [_name(column)])} if {
	some statement in input.command.statements
	_copied(statement)
	some column in statement.columns
	column.use == "output"
	some label in _hidden(column)
}

# METADATA
# description: An expression, a condition or an order would give the value away.
deny contains {"id": sprintf("labels.%s", [label]), "message": sprintf("%s may only be selected as a plain column (here: %s)", [_name(column), column.use])} if {
	some statement in input.command.statements
	some column in statement.columns
	not column.use in {"output", "write"}
	some label in _hidden(column)
}

default diagnostics := "canonical"

# METADATA
# description: Errors are shown in full where they cannot show a hidden value.
diagnostics := "full" if {
	input.command.complete
	every statement in input.command.statements {
		every relation in statement.relations {
			every label in relation.labels {
				_visible(label)
			}
		}
		every name in statement.functions {
			startswith(name, "pg_catalog.")
		}
	}
}
