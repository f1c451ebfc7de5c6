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
	"secrets": _compiled(data.dangerous.secrets),
	"settings": _compiled(data.dangerous.settings_allowed),
	"masks": _masks,
	"shown": _shown,
	"agents": {"hold": _keys(data.agents.hold), "deny": _keys(data.agents.deny)},
	"rules": {name: _rule(rule) | some name, rule in data.rules},
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
	is_array(data.dangerous.secrets)
	count(data.approvers) > 0
	is_number(data.approvals.count)
	is_string(data.approvals.ttl)
	is_object(data.rules)
	is_object(data.windows)
	every rule in data.rules {
		_whole_rule(rule)
	}
}

# A rule whose form is not known could apply where it should not, or not where it should. Here, since an engine other
# than the gateway takes data unchecked.
_whole_rule(rule) if {
	every key, _ in rule {
		key in {"for", "on", "within", "outside", "grant", "deny", "hold", "limit", "timeout", "read_only", "rate"}
	}
	every key, _ in object.get(rule, "for", {}) {
		key in {"kind", "groups", "identities"}
	}
	every key, _ in object.get(rule, "on", {}) {
		key in {"targets", "labels", "classes", "relations"}
	}

	# Undefined for a rule of another form.
	_ := _rule(rule)
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

# What a rule does not say is false; what it says is looked up. Undefined where it says it in another form.
_rule(rule) := {
	"kind": object.get(who, "kind", false),
	"groups": _set(object.get(who, "groups", false)),
	"identities": _set(object.get(who, "identities", false)),
	"targets": _patterns(object.get(where, "targets", false)),
	"labels": object.get(where, "labels", {}),
	"classes": _set(object.get(where, "classes", false)),
	"relations": _patterns(object.get(where, "relations", false)),
	"within": _window(object.get(rule, "within", false)),
	"outside": _window(object.get(rule, "outside", false)),
	"grant": object.get(rule, "grant", []),
	"deny": object.get(rule, "deny", false),
	"hold": _hold(object.get(rule, "hold", false)),
	"oblige": _oblige(rule),
} if {
	who := object.get(rule, "for", {})
	where := object.get(rule, "on", {})
}

_set(false) := false

_set(list) := _keys(list) if is_array(list)

_patterns(false) := false

_patterns(list) := _compiled(list) if is_array(list)

_hold(false) := false

_hold(terms) := object.union({"message": "needs approval"}, terms) if is_object(terms)

# Undefined where one of them is of another form.
_oblige(rule) := _none_is_false(obligations) if {
	obligations := {key: value |
		some key in ["limit", "timeout_ms", "read_only", "rate"]
		value := _obligation(rule, key)
	}
	count(obligations) == count([key | some key in ["limit", "timeout", "read_only", "rate"]; rule[key]])
}

_obligation(rule, "limit") := rule.limit if is_number(rule.limit)

_obligation(rule, "timeout_ms") := milliseconds(rule.timeout)

_obligation(rule, "read_only") := rule.read_only if is_boolean(rule.read_only)

_obligation(rule, "rate") := {"commands": commands, "per_ms": milliseconds(rule.rate.per)} if {
	commands := rule.rate.commands
	is_number(commands)
}

_none_is_false(obligations) := obligations if count(obligations) > 0

_none_is_false({}) := false

# METADATA
# description: Of a duration such as 500ms, 30s, 15m or 2h. Undefined for anything else.
milliseconds(duration) := to_number(trim_suffix(duration, unit)) * _milliseconds[unit] if {
	# Not by a pattern: each command that is held asks, and one costs more than the rest of its decision.
	unit := trim_left(duration, "0123456789")
}

_milliseconds := {"ms": 1, "s": 1000, "m": 60000, "h": 3600000}

_day_after := {
	"Monday": "Tuesday",
	"Tuesday": "Wednesday",
	"Wednesday": "Thursday",
	"Thursday": "Friday",
	"Friday": "Saturday",
	"Saturday": "Sunday",
	"Sunday": "Monday",
}

_window(false) := false

_window(name) := {
	"days": {day: true | some day in days},
	"mornings": {_day_after[day]: true | some day in days},
	"from": window.from,
	"to": window.to,
	"by_day": window.from < window.to,
} if {
	some given, window in data.windows
	given == name
	days := object.get(window, "days", [day | some day, _ in _day_after])
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
