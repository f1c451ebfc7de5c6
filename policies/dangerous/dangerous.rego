# METADATA
# title: Dangerous statements
# description: Statements, functions, settings and relations that act outside what policy can judge.
package sallyport.dangerous

import data.sallyport.prepared

_dba if {
	some group in input.identity.groups
	prepared.current.exempt[group]
}

# Of PostgreSQL's own: also what information_schema is made of, which drivers call to read keys and indexes. A schema of
# a user's may have a dot in its name, and so begin with theirs.
_own(name) if {
	[schema, function] := split(name, ".")
	_made_with_it(schema, function)
}

_made_with_it("pg_catalog", _)

_made_with_it("information_schema", function) if startswith(function, "_pg_")

# Relations that the caller may not use: those that keep passwords are for nobody.
_closed := [prepared.current.secrets] if {
	_dba
} else := [prepared.current.secrets, prepared.current.relations]

# METADATA
# description: Features that are never allowed.
deny contains {"id": "dangerous.feature", "message": concat("", [feature, " is not allowed"])} if {
	some statement in input.command.statements
	some feature in statement.features
	prepared.current.features[feature]
}

# METADATA
# description: Settings outside the list of harmless ones.
deny contains {"id": "dangerous.setting", "message": concat("", ["the setting ", name, " may not be changed"])} if {
	some statement in input.command.statements
	some feature in statement.features
	startswith(feature, "set:")
	name := substring(feature, 4, -1)
	not prepared.matches(name, prepared.current.settings)
}

# METADATA
# description: Functions of PostgreSQL that reach files, the network, other sessions or settings.
deny contains {"id": "dangerous.function", "message": concat("", [name, " is not allowed"])} if {
	some statement in input.command.statements
	some name in statement.functions
	prepared.matches(name, prepared.current.functions)
}

# METADATA
# description: Functions of users run what the gateway cannot see, unless they are listed.
deny contains {
	"id": "dangerous.user_function",
	"message": concat("", [name, " is not on the list of allowed functions"]),
} if {
	some statement in input.command.statements
	some name in statement.functions
	not _own(name)
	not prepared.matches(name, prepared.current.functions_allowed)
}

# METADATA
# description: System relations that hold secrets, statistics of values or other sessions' commands.
deny contains {"id": "dangerous.relation", "message": concat("", [name, " may not be read"])} if {
	some statement in input.command.statements
	some relation in statement.relations
	name := concat(".", [relation.schema, relation.name])
	some patterns in _closed
	prepared.matches(name, patterns)
}
