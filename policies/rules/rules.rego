# METADATA
# title: Rules of a deployment
# description: |
#   Rules that are written as data (data.rules): for whom, on what and when each applies, and what it then grants,
#   denies, holds for approval or obliges a command to.
package sallyport.rules

import data.sallyport.prepared

# Rules for this caller, on this target, at this time.
_here[name] := rule if {
	some name, rule in prepared.current.rules
	_kind(rule)
	_group(rule)
	_identity(rule)
	_target(rule)
	_labelled(rule)
	_timely(rule)
}

# Of those, the ones that a statement of the command falls under.
_hit[name] := rule if {
	some name, rule in _here
	some statement in input.command.statements
	_class(rule, statement)
	_relation(rule, statement)
}

# What a rule does not say is false in it, and holds for everything.
_kind(rule) if not rule.kind

_kind(rule) if rule.kind == input.identity.kind

_group(rule) if not rule.groups

_group(rule) if {
	some group in input.identity.groups
	rule.groups[group]
}

_identity(rule) if not rule.identities

_identity(rule) if rule.identities[input.identity.email]

_identity(rule) if rule.identities[input.identity.subject]

_target(rule) if not rule.targets

_target(rule) if prepared.matches(input.target.name, rule.targets)

_labelled(rule) if {
	every key, value in rule.labels {
		input.target.labels[key] == value
	}
}

_class(rule, _) if not rule.classes

_class(rule, statement) if rule.classes[statement.class]

_relation(rule, _) if not rule.relations

_relation(rule, statement) if {
	some relation in statement.relations
	prepared.matches(concat(".", [relation.schema, relation.name]), rule.relations)
}

_timely(rule) if {
	_within(rule)
	not _outside(rule)
}

_within(rule) if not rule.within

_within(rule) if _open(rule.within)

_outside(rule) if _open(rule.outside)

# A window is open on its days from its beginning to before its end; one that ends after midnight, on its days from its
# beginning, and on the mornings after them.
_open(window) if {
	window.days[input.now.weekday]
	window.from <= input.now.time
	input.now.time < window.to
}

_open(window) if {
	not window.by_day
	window.days[input.now.weekday]
	window.from <= input.now.time
}

_open(window) if {
	not window.by_day
	window.mornings[input.now.weekday]
	input.now.time < window.to
}

# METADATA
# description: Classes that the caller is granted here and now, beyond what its groups are.
granted contains class if {
	some rule in _here
	some class in rule.grant
}

# METADATA
# description: A command that a rule refuses.
deny contains {"id": concat("", ["rules.", name]), "message": rule.deny} if {
	some name, rule in _hit
	rule.deny
}

# METADATA
# description: A command that a rule holds for approval, on its own terms where it has some.
approve contains object.union(rule.hold, {"id": concat("", ["rules.", name])}) if {
	some name, rule in _hit
	rule.hold
}

# METADATA
# description: What a rule obliges a command to that runs.
oblige contains object.union(rule.oblige, {"rule": concat("", ["rules.", name])}) if {
	some name, rule in _hit
	rule.oblige
}
