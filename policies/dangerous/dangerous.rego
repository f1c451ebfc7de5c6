# METADATA
# title: Dangerous statements
# description: Statements, functions, settings and relations that act outside what policy can judge.
package sallyport.dangerous

_matches(name, patterns) if {
	some pattern in patterns
	glob.match(pattern, null, name)
}

_dba if {
	some group in data.dangerous.exempt
	group in input.identity.groups
}

# METADATA
# description: Features that are never allowed.
deny contains {"id": "dangerous.feature", "message": sprintf("%s is not allowed", [feature])} if {
	some statement in input.command.statements
	some feature in statement.features
	feature in data.dangerous.features
}

# METADATA
# description: Settings outside the list of harmless ones.
deny contains {"id": "dangerous.setting", "message": sprintf("the setting %s may not be changed", [name])} if {
	some statement in input.command.statements
	some feature in statement.features
	startswith(feature, "set:")
	name := substring(feature, 4, -1)
	not _matches(name, data.dangerous.settings_allowed)
}

# METADATA
# description: Functions of PostgreSQL that reach files, the network, other sessions or settings.
deny contains {"id": "dangerous.function", "message": sprintf("%s is not allowed", [name])} if {
	some statement in input.command.statements
	some name in statement.functions
	_matches(name, data.dangerous.functions)
}

# METADATA
# description: Functions of users run what the gateway cannot see, unless they are listed.
deny contains {"id": "dangerous.user_function", "message": sprintf("%s is not on the list of allowed functions", [name])} if {
	some statement in input.command.statements
	some name in statement.functions
	not startswith(name, "pg_catalog.")
	not _matches(name, data.functions.allow)
}

# METADATA
# description: System relations that hold secrets, statistics of values or other sessions' commands.
deny contains {"id": "dangerous.relation", "message": sprintf("%s may not be read", [name])} if {
	not _dba
	some statement in input.command.statements
	some relation in statement.relations
	name := sprintf("%s.%s", [relation.schema, relation.name])
	_matches(name, data.dangerous.relations)
}
