package sallyport_test

import data.sallyport

_column(use, label) := {"schema": "public", "table": "customers", "column": "ssn", "labels": [label], "use": use}

_statement := {
	"verb": "SELECT",
	"class": "read",
	"relations": [{"schema": "public", "name": "customers", "access": "read", "labels": []}],
	"columns": [],
	"functions": [],
	"bounded": true,
	"limit": null,
	"features": [],
}

_input(groups, kind, statement) := {
	"identity": {"issuer": "i", "subject": "s", "email": "s@example.com", "groups": groups, "kind": kind, "claims": {}},
	"target": {"name": "demo", "kind": "postgres", "database": "app", "labels": {}},
	"command": {
		"kind": "sql",
		"digest": "sha256:d",
		"fingerprint": "f",
		"novel": false,
		"complete": true,
		"incomplete": [],
		"params": [],
		"statements": [statement],
	},
}

_analyst(changes) := _input(["analysts"], "human", object.union(_statement, changes))

_ids(decision) := {rule.id | some rule in decision.rules}

test_a_read_by_a_granted_group_is_allowed if {
	decision := sallyport.command with input as _analyst({})
	decision.verdict == "allow"
}

test_no_group_no_access if {
	decision := sallyport.command with input as _input([], "human", _statement)
	decision.verdict == "deny"
}

test_a_session_says_what_was_granted if {
	decision := sallyport.session with input as _analyst({})
	decision.rules == [{"id": "access.target", "message": "granted: read"}]
}

test_a_session_shows_no_errors_in_full if {
	every groups in [["analysts"], []] {
		decision := sallyport.session with input as _input(groups, "human", _statement)
		decision.diagnostics == "canonical"
	}
}

test_a_labelled_output_is_masked if {
	decision := sallyport.command with input as _analyst({"columns": [_column("output", "secret")]})
	decision.verdict == "mask"
	decision.masks == [{"column": "public.customers.ssn", "with": "redact", "rule": "labels.secret"}]
}

test_a_label_without_a_known_mask_is_redacted if {
	every kind in ["partal", "", 1, null] {
		decision := sallyport.command with input as _analyst({"columns": [_column("output", "odd")]})
			with data.labels as {"odd": {"mask": kind}}
		decision.masks[0].with == "redact"
	}
}

test_a_label_that_data_does_not_know_is_redacted if {
	decision := sallyport.command with input as _analyst({"columns": [_column("output", "unknown")]})
	decision.masks[0].with == "redact"
}

test_every_use_but_output_and_write_of_a_hidden_column_is_denied if {
	every use in ["derived", "predicate", "order", "something new"] {
		decision := sallyport.command with input as _analyst({"columns": [_column(use, "secret")]})
		decision.verdict == "deny"
	}
}

test_copy_of_a_hidden_column_is_denied if {
	changes := {"columns": [_column("output", "secret")], "features": ["copy.to.stdout"]}
	decision := sallyport.command with input as _analyst(changes)
	decision.verdict == "deny"
}

test_those_a_label_is_shown_to_see_it if {
	statement := object.union(_statement, {"columns": [_column("derived", "pii")]})
	decision := sallyport.command with input as _input(["analysts", "privacy"], "human", statement)
	decision.verdict == "allow"
}

test_an_incomplete_command_is_denied_whatever_its_reasons_are if {
	every reasons in [[], ["x"], null, "x"] {
		changes := {"command": {"complete": false, "incomplete": reasons}}
		decision := sallyport.command with input as object.union(_analyst({}), changes)
		decision.verdict == "deny"
	}
}

test_a_missing_field_is_denied if {
	every path in [
		"/identity/kind", "/identity/groups", "/command/complete", "/command/incomplete", "/command/novel",
		"/command/statements", "/command/statements/0/verb", "/command/statements/0/class",
		"/command/statements/0/columns", "/command/statements/0/functions", "/command/statements/0/features",
		"/command/statements/0/relations", "/command/statements/0/bounded", "/target/name",
	] {
		decision := sallyport.command with input as json.remove(_analyst({}), [path])
		decision.verdict == "deny"
	}
}

test_a_missing_section_of_data_is_denied if {
	decision := sallyport.command with input as _analyst({}) with data.dangerous as {}
	decision.verdict == "deny"
	"shape.data" in _ids(decision)
}

test_functions_that_reach_outside_are_denied if {
	every name in [
		"pg_catalog.pg_read_file", "pg_catalog.pg_stat_get_backend_activity", "pg_catalog.lo_import",
		"pg_catalog.set_config", "pg_catalog.ts_stat", "pg_catalog.setval", "public.anything", "public.dblink",
	] {
		decision := sallyport.command with input as _analyst({"functions": [name]})
		decision.verdict == "deny"
	}
}

test_system_relations_that_hold_values_are_denied if {
	every name in ["pg_stats", "pg_statistic", "pg_authid", "pg_stat_activity", "pg_stat_wal_receiver"] {
		relation := {"schema": "pg_catalog", "name": name, "access": "read", "labels": []}
		decision := sallyport.command with input as _analyst({"relations": [relation]})
		decision.verdict == "deny"
	}
}

test_a_setting_outside_the_list_is_denied if {
	denied := sallyport.command with input as _analyst({"class": "session", "features": ["set:log_statement"]})
	denied.verdict == "deny"
	allowed := sallyport.command with input as _analyst({"class": "session", "features": ["set:search_path"]})
	allowed.verdict == "allow"
}

test_an_unbounded_write_is_denied if {
	statement := object.union(_statement, {"verb": "DELETE", "class": "write", "bounded": false})
	decision := sallyport.command with input as _input(["oncall"], "human", statement)
	_ids(decision) == {"writes.unbounded"}
}

test_an_unbounded_write_inside_a_select_is_denied if {
	statement := object.union(_statement, {"class": "write", "bounded": false, "features": ["data_modifying_cte"]})
	decision := sallyport.command with input as _input(["oncall"], "human", statement)
	_ids(decision) == {"writes.unbounded"}
}

test_ddl_of_an_agent_is_held_and_its_dcl_denied if {
	ddl := object.union(_statement, {"verb": "CREATE TABLE", "class": "ddl"})
	held := sallyport.command with input as _input(["dba"], "agent", ddl)
	held.verdict == "approve"
	held.approval == {"from": ["dba"], "count": 1, "ttl": "15m"}
	dcl := object.union(_statement, {"verb": "GRANT", "class": "dcl"})
	denied := sallyport.command with input as _input(["dba"], "agent", dcl)
	denied.verdict == "deny"
}

_select_ssn := _analyst({"columns": [_column("output", "secret")]})

# The gateway refuses a decision with such a mask; left out, its column would be shown.
test_a_mask_of_no_kind_or_no_column_stays_in_the_decision if {
	other := {"column": "public.customers.name", "with": "null", "rule": "team.name"}
	every broken in [
		{"column": "public.customers.ssn", "with": "partail", "rule": "team.typo"},
		{"column": "public.customers.ssn", "rule": "team.typo"},
		{"with": "redact", "rule": "team.typo"},
		{"column": "public.customers.ssn", "with": null},
	] {
		decision := sallyport.command with input as _select_ssn with sallyport.labels.mask as {broken, other}
		[object.get(broken, "column", ""), object.get(broken, "with", "")] in {[mask.column, mask.with] |
			some mask in decision.masks
		}
	}
}

test_the_strongest_mask_of_a_column_wins if {
	decision := sallyport.command with input as _select_ssn with sallyport.labels.mask as {
		{"column": "public.customers.ssn", "with": "hash", "rule": "team.a"},
		{"column": "public.customers.ssn", "with": "redact", "rule": "team.b"},
	}
	decision.masks == [{"column": "public.customers.ssn", "with": "redact", "rule": "team.b"}]
}

test_a_mask_of_no_kind_is_stronger_than_any_other_of_its_column if {
	every kind in ["redact", "null", "partial", "hash"] {
		decision := sallyport.command with input as _select_ssn with sallyport.labels.mask as {
			{"column": "public.customers.ssn", "with": kind, "rule": "team.a"},
			{"column": "public.customers.ssn", "with": "partail", "rule": "team.b"},
		}
		decision.masks == [{"column": "public.customers.ssn", "with": "partail", "rule": "team.b"}]
	}
}

test_every_reason_to_allow_is_told if {
	reasons := {{"id": "team.a", "message": "a"}, {"id": "team.b", "message": "b"}, {"id": "team.c", "message": "c"}}
	decision := sallyport.command with input as _analyst({}) with sallyport.access.allow as reasons
	_ids(decision) == {"team.a", "team.b", "team.c"}
}

test_what_nothing_allows_is_denied_though_a_rule_would_hold_it if {
	decision := sallyport.command with input as _analyst({})
		with sallyport.access.allow as set()
		with sallyport.rules.approve as {{"id": "team.hold", "message": "held"}}
	decision.verdict == "deny"
	_ids(decision) == {"access.none"}
}

test_what_nothing_allows_shows_errors_as_its_labels_say if {
	every label, diagnostics in {"secret": "canonical", "": "full"} {
		relation := {"schema": "public", "name": "customers", "access": "read", "labels": [label]}
		shown := object.union(data.labels, {"": {"mask": "redact", "show_to": ["analysts"]}})
		decision := sallyport.command with input as _analyst({"relations": [relation]})
			with data.labels as shown
			with sallyport.access.allow as set()
		decision.diagnostics == diagnostics
	}
}

test_an_approval_carries_its_masks if {
	statement := object.union(_statement, {"columns": [_column("output", "secret")]})
	request := object.union(_input(["analysts"], "agent", statement), {"command": {"novel": true}})
	decision := sallyport.command with input as request
	decision.verdict == "approve"
	count(decision.masks) == 1
}

test_diagnostics_are_canonical_where_a_label_is_hidden if {
	relation := {"schema": "public", "name": "customers", "access": "read", "labels": ["secret"]}
	decision := sallyport.command with input as _analyst({"relations": [relation]})
	decision.diagnostics == "canonical"
}

# Rules of a deployment, as data.

_at(moment) := object.union(_analyst({}), {"now": {"weekday": moment[0], "time": moment[1]}})

test_a_rule_obliges_those_it_is_for if {
	rule := {
		"for": {"groups": ["analysts"]}, "on": {"classes": ["read"]},
		"limit": 10, "timeout": "30s", "read_only": true,
	}
	decision := sallyport.command with input as _analyst({}) with data.rules.one as rule
	decision.obligations == {
		"limit": {"rows": 10, "rule": "rules.one"},
		"timeout": {"ms": 30000, "rule": "rules.one"},
		"read_only": {"rule": "rules.one"},
	}
	other := sallyport.command with input as _input(["dba"], "human", _statement) with data.rules.one as rule
	other.obligations == {}
}

test_the_least_limit_and_timeout_win_and_every_rate_holds if {
	decision := sallyport.command with input as _analyst({}) with data.rules as {
		"a": {"limit": 10, "timeout": "1m", "rate": {"commands": 5, "per": "1s"}},
		"b": {"limit": 9, "timeout": "61s", "rate": {"commands": 50, "per": "1h"}},
	}
	decision.obligations.limit == {"rows": 9, "rule": "rules.b"}
	decision.obligations.timeout == {"ms": 60000, "rule": "rules.a"}
	count(decision.obligations.rates) == 2
}

test_of_several_rules_that_make_it_read_only_the_first_is_named if {
	decision := sallyport.command with input as _analyst({}) with data.rules as {
		"b": {"read_only": true},
		"a": {"read_only": true},
		"c": {"read_only": true},
	}
	decision.obligations.read_only == {"rule": "rules.a"}
}

test_an_obligation_of_no_known_form_stays_in_the_decision if {
	every broken in [{"limit": "10"}, {"limit": true}, {"limitt": 10}, {"timeout_ms": []}, {"rate": 5}] {
		decision := sallyport.command with input as _analyst({}) with sallyport.rules.oblige as {
			object.union(broken, {"rule": "team.typo"}),
			{"rule": "team.good", "limit": 5, "timeout_ms": 100},
		}
		some name, value in decision.obligations
		not _sound(name, value)
	}
}

test_every_obligation_of_no_known_name_stays_in_the_decision if {
	decision := sallyport.command with input as _analyst({}) with sallyport.rules.oblige as {
		{"rule": "team.a", "limitt": 5, "rows": 5},
		{"rule": "team.b", "timeout": 5},
	}
	decision.obligations == {"limitt": 5, "rows": 5, "timeout": 5}
}

test_a_limit_that_is_no_number_is_less_than_any if {
	decision := sallyport.command with input as _analyst({}) with sallyport.rules.oblige as {
		{"rule": "team.a", "limit": 0},
		{"rule": "team.b", "limit": "10"},
	}
	decision.obligations.limit == {"rows": "10", "rule": "team.b"}
}

_sound("limit", value) if is_number(value.rows)

_sound("timeout", value) if is_number(value.ms)

test_a_window_is_open_on_its_days_between_its_times if {
	windows := {"office": {"days": ["Monday", "Tuesday"], "from": "08:30", "to": "18:00"}}
	rule := {"outside": "office", "deny": "not now"}
	cases := {
		["Monday", "08:29"]: "deny", ["Monday", "08:30"]: "allow", ["Tuesday", "17:59"]: "allow",
		["Tuesday", "18:00"]: "deny", ["Wednesday", "12:00"]: "deny",
	}
	every moment, verdict in cases {
		decision := sallyport.command with input as _at(moment) with data.rules.one as rule
			with data.windows as windows
		decision.verdict == verdict
	}
}

test_a_window_over_midnight_goes_on_in_the_mornings_after_its_days if {
	windows := {"night": {"days": ["Sunday"], "from": "22:00", "to": "06:00"}}
	rule := {"within": "night", "deny": "asleep"}
	cases := {
		["Sunday", "21:59"]: "allow", ["Sunday", "22:00"]: "deny", ["Monday", "05:59"]: "deny",
		["Monday", "06:00"]: "allow", ["Sunday", "05:00"]: "allow", ["Monday", "23:00"]: "allow",
	}
	every moment, verdict in cases {
		decision := sallyport.command with input as _at(moment) with data.rules.one as rule
			with data.windows as windows
		decision.verdict == verdict
	}
}

test_a_night_ends_on_the_day_after_it_began if {
	mornings := {
		"Monday": "Tuesday", "Tuesday": "Wednesday", "Wednesday": "Thursday", "Thursday": "Friday",
		"Friday": "Saturday", "Saturday": "Sunday", "Sunday": "Monday",
	}
	windows := {began: {"days": [began], "from": "22:00", "to": "06:00"} | some began, _ in mornings}
	rules := {began: {"within": began, "deny": "asleep"} | some began, _ in mornings}
	every began, ended in mornings {
		decision := sallyport.command with input as _at([ended, "05:00"])
			with data.rules as rules
			with data.windows as windows
		_ids(decision) == {concat("", ["rules.", began])}
	}
}

test_a_rule_of_no_known_form_denies if {
	every rule in [
		{"for": {"groop": ["dba"]}, "grant": ["read"]}, {"on": {"clases": []}}, {"frm": {}}, {"for": {"groups": "dba"}},
		{"within": "no such window", "deny": "x"}, {"on": {"targets": "demo"}},
	] {
		decision := sallyport.command with input as _analyst({}) with data.rules.one as rule
		_ids(decision) == {"shape.data"}
	}
}

test_rules_that_hold_are_satisfied_by_one_approval if {
	decision := sallyport.command with input as _analyst({}) with data.rules as {
		"a": {"hold": {"from": ["dba", "lead"], "count": 2}},
		"b": {"hold": {"from": ["lead", "security"], "ttl": "5m"}},
	}
	decision.verdict == "approve"
	decision.approval == {"from": ["lead"], "count": 2, "ttl": "5m"}
}

test_rules_that_nobody_may_approve_together_deny if {
	decision := sallyport.command with input as _analyst({}) with data.rules as {
		"a": {"hold": {"from": ["dba"]}},
		"b": {"hold": {"from": ["security"]}},
	}
	decision.verdict == "deny"
	decision.rules == [{"id": "approval.nobody", "message": "nobody may approve for all of rules.a, rules.b"}]
}

test_a_reason_without_a_message_or_an_id_is_a_reason if {
	every reason in [{"id": "team.x"}, {"message": "x"}, {}] {
		decision := sallyport.command with input as _analyst({}) with sallyport.writes.deny as {reason}
		decision.verdict == "deny"
		count(decision.rules) == 1
	}
}
