# METADATA
# title: Prepared data
# description: |
#   What the rules need of data, in a form that is looked up instead of searched. The gateway evaluates `document` once,
#   when it loads the bundle, and gives it back as `data.sallyport_prepared`; where that is absent (opa test, other
#   engines) it is made of the same data on the way, so that a decision never depends on it.
package sallyport.prepared

# METADATA
# title: Prepared data
# description: Made of data alone. Undefined where data lacks a section that the rules read.
# entrypoint: true
document := {
	"complete": true,
	"exempt": _keys(data.dangerous.exempt),
	"features": _keys(data.dangerous.features),
	"functions": _compiled(data.dangerous.functions),
	"functions_allowed": _compiled(data.functions.allow),
	"relations": _compiled(data.dangerous.relations),
	"settings": _compiled(data.dangerous.settings_allowed),
	"masks": _masks,
	"shown": _shown,
	"agents": {"hold": _keys(data.agents.hold), "deny": _keys(data.agents.deny)},
} if {
	_whole
}

# METADATA
# description: The document in force.
current := data.sallyport_prepared if {
	data.sallyport_prepared.complete
} else := document

_whole if {
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

# JSON has no sets.
_keys(list) := {item: true | some item in list}

_kinds := {"redact", "null", "partial", "hash"}

# A kind that is missing or not known is not here, and shows nothing.
_masks[label] := settings.mask if {
	some label, settings in data.labels
	settings.mask in _kinds
}

# Labels in clear, by group.
_shown[group] := [label | some label, settings in data.labels; group in settings.show_to] if {
	some settings in data.labels
	some group in settings.show_to
}

# METADATA
# description: |
#   Whether one of the compiled glob patterns matches. Most are a name, or its beginning and `*`, which are looked up;
#   `a*b*` is two searches; others are compiled by the engine at every call, which is slow.
matches(name, patterns) if {
	patterns.names[name]
} else if {
	some length in patterns.lengths
	patterns.beginnings[substring(name, 0, length)]
} else if {
	some part in patterns.parts
	startswith(name, part.beginning)
	contains(substring(name, part.length, -1), part.inner)
} else if {
	some pattern in patterns.globs
	glob.match(pattern, null, name)
}

_compiled(list) := {
	"names": {pattern: true | some pattern in list; _form(pattern) == "name"},
	"beginnings": {head: true | some head in _beginnings(list)},
	"lengths": sort({count(head) | some head in _beginnings(list)}),
	"parts": [part |
		some pattern in list
		_form(pattern) == "part"
		pieces := split(pattern, "*")
		part := {"beginning": pieces[0], "length": count(pieces[0]), "inner": pieces[1]}
	],
	"globs": [pattern | some pattern in list; _form(pattern) == "glob"],
}

_beginnings(list) := {trim_suffix(pattern, "*") | some pattern in list; _form(pattern) == "beginning"}

_form(pattern) := "glob" if {
	regex.match(`[?\[\]{}\\!,]|\*\*`, pattern)
} else := "name" if {
	not contains(pattern, "*")
} else := "beginning" if {
	indexof(pattern, "*") == count(pattern) - 1
} else := "part" if {
	endswith(pattern, "*")
	count(split(pattern, "*")) == 3
} else := "glob"
