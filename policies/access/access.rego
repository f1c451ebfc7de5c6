# METADATA
# title: Access by group
# description: Which statement classes the groups of an identity open on a target, from data.targets.
package sallyport.access

import data.sallyport.rules

# METADATA
# description: How messages name the caller.
who := input.identity.email if {
	input.identity.email != ""
} else := input.identity.subject

# METADATA
# description: Classes granted to the caller on this target, here and now.
granted := _granted_to_groups | rules.granted

_granted_to_groups contains class if {
	some group in input.identity.groups
	some class in data.targets[input.target.name].access[group]
}

# Classes that touch no data of their own need no grant but any.
default _permitted := set()

_permitted := granted | {"transaction", "session", "utility"} if {
	count(granted) > 0
}

_all_permitted if {
	every statement in input.command.statements {
		statement.class in _permitted
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
	not statement.class in _permitted
}

# METADATA
# description: What could not be accounted for is not run.
deny contains {
	"id": "access.incomplete",
	"message": concat("", ["the command could not be fully understood: ", concat("; ", input.command.incomplete)]),
} if {
	not input.command.complete
}
