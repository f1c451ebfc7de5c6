# METADATA
# title: Access by group
# description: Which statement classes the groups of an identity open on a target, from data.targets.
package sallyport.access

# METADATA
# description: How messages name the caller.
who := input.identity.email if {
	input.identity.email != ""
} else := input.identity.subject

# METADATA
# description: Classes granted to the caller on this target.
granted contains class if {
	some group in input.identity.groups
	some class in data.targets[input.target.name].access[group]
}

# Classes that touch no data of their own.
_free := {"transaction", "session", "utility"}

_permitted(class) if class in granted

_permitted(class) if {
	class in _free
	count(granted) > 0
}

_all_permitted if {
	every statement in input.command.statements {
		_permitted(statement.class)
	}
}

# METADATA
# description: Every statement is of a class that the caller was granted.
allow contains {
	"id": "access.class",
	"message": concat("", ["classes granted to ", who, " on ", input.target.name]),
} if {
	count(input.command.statements) > 0
	_all_permitted
}

# METADATA
# description: An empty query does nothing.
allow contains {"id": "access.empty", "message": "an empty command"} if {
	count(input.command.statements) == 0
	input.command.complete
	count(granted) > 0
}

# METADATA
# description: A class that was not granted.
deny contains {
	"id": "access.class",
	"message": concat("", [who, " has no ", statement.class, " access to ", input.target.name]),
} if {
	some statement in input.command.statements
	not _permitted(statement.class)
}

# METADATA
# description: What could not be accounted for is not run.
deny contains {
	"id": "access.incomplete",
	"message": concat("", ["the command could not be fully understood: ", concat("; ", input.command.incomplete)]),
} if {
	not input.command.complete
}
