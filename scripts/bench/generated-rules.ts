/** A package of rules as teams write them: who, what kind of statement, which relation, column or function, at what hour. */
const forms: readonly ((n: number) => string)[] = [
  (n) => `deny contains {"id": "generated.relation_${n}", "message": "public.table_${n} is closed"} if {
	not "team_${n}" in input.identity.groups
	some statement in input.command.statements
	some relation in statement.relations
	relation.schema == "public"
	relation.name == "table_${n}"
}`,
  (n) => `deny contains {"id": "generated.write_${n}", "message": "team_${n} writes by day only"} if {
	"team_${n}" in input.identity.groups
	some statement in input.command.statements
	statement.class == "write"
	input.now.hour >= ${n % 24}
}`,
  (n) => `approve contains {"id": "generated.function_${n}", "message": "function_${n} needs approval"} if {
	some statement in input.command.statements
	"public.function_${n}" in statement.functions
}`,
  (n) => `mask contains {
	"column": concat(".", [column.schema, column.table, column.column]),
	"with": "partial",
	"rule": "generated.column_${n}",
} if {
	some statement in input.command.statements
	some column in statement.columns
	column.table == "table_${n}"
	column.column == "column_${n}"
	column.use == "output"
}`,
];

export function generatedRules(count: number): string {
  const rules = Array.from({ length: count }, (_, n) => (forms[n % forms.length] ?? String)(n));
  return `package sallyport.generated\n\n${rules.join("\n\n")}\n`;
}
