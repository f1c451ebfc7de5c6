# METADATA
# title: Labels
# description: |
#   Labelled columns are masked as bare result columns and denied in any other use, for those who may not see them.
package sallyport.labels

import data.sallyport.prepared

# Labels that the caller sees in clear.
_shown contains label if {
	some group in input.identity.groups
	some label in prepared.current.shown[group]
}

_copied(statement) if {
	some feature in statement.features
	feature in {"copy.file", "copy.program", "copy.to.stdout"}
}

# Every use of a labelled column by somebody who may not see it.
_hidden := [hidden |
	some statement in input.command.statements
	some column in statement.columns
	some label in column.labels
	not label in _shown
	hidden := {
		"column": concat(".", [column.schema, column.table, column.column]),
		"use": column.use,
		"label": label,
		"statement": statement,
	}
]

# METADATA
# description: A bare result column is shown as its labels say.
mask contains {
	"column": hidden.column,
	"with": object.get(prepared.current.masks, hidden.label, "redact"),
	"rule": concat("", ["labels.", hidden.label]),
} if {
	some hidden in _hidden
	hidden.use == "output"
	not _copied(hidden.statement)
}

# METADATA
# description: COPY carries no column identity, so what would be masked is denied.
deny contains {
	"id": concat("", ["labels.", hidden.label]),
	"message": concat("", ["COPY may not read ", hidden.column, "; SELECT it to get it masked"]),
} if {
	some hidden in _hidden
	hidden.use == "output"
	_copied(hidden.statement)
}

# METADATA
# description: An expression, a condition or an order would give the value away.
deny contains {
	"id": concat("", ["labels.", hidden.label]),
	"message": concat("", [hidden.column, " may only be selected as a plain column (here: ", hidden.use, ")"]),
} if {
	some hidden in _hidden
	not hidden.use in {"output", "write"}
}

# Rows of tables that it does not name, to evaluate expressions of indexes, statistics and domains.
_reads_unnamed(statement) if statement.verb in {"ALTER DOMAIN", "REINDEX"}

_reads_unnamed(statement) if {
	statement.verb in {"ANALYZE", "CLUSTER", "VACUUM"}
	count(statement.relations) == 0
}

# METADATA
# description: Errors are shown in full where they cannot show a hidden value.
# scope: document
default diagnostics := "canonical"

diagnostics := "full" if {
	input.command.complete
	every statement in input.command.statements {
		not _reads_unnamed(statement)
		every relation in statement.relations {
			every label in relation.labels {
				label in _shown
			}
		}
		every name in statement.functions {
			startswith(name, "pg_catalog.")
		}
	}
}
