/** What a view reads, from its definition; kept for as long as the snapshot that has it. */
import type { CatalogRelation, NameContext } from "./catalog.ts";
import { hasCutName } from "./encoding.ts";
import { Budget, Findings, type Parts, TooComplex, type ViewFacts } from "./findings.ts";
import { parseSql } from "./parse.ts";
import { query, select, targets } from "./query.ts";

const knownFacts = new WeakMap<CatalogRelation, ViewFacts>();

export const parts: Parts = { query, select, targets, view: factsOfView };

/** A view that cannot be understood, or is inside itself, is reported as such: whoever reads it is incomplete. */
export function factsOfView(relation: CatalogRelation, context: NameContext): ViewFacts {
  const known = knownFacts.get(relation);
  if (known) return known;
  const unknown: ViewFacts = {
    result: { columns: [], open: [] },
    deciding: [],
    relations: [],
    functions: new Set(),
    incomplete: new Set([`view ${relation.schema}.${relation.name} could not be understood`]),
  };
  knownFacts.set(relation, unknown);
  const parsed = relation.definition === null ? undefined : parseSql(relation.definition);
  const [statement] = parsed?.kind === "parsed" ? parsed.statements : [];
  if (statement?.kind !== "SelectStmt") return unknown;
  if (context.catalog.snapshot.encoding !== undefined && hasCutName(relation.definition ?? "", statement))
    return unknown;
  const searchPath = relation.spelledFor ?? context.catalog.searchPath;
  const findings = new Findings({ ...context, searchPath }, parts, new Budget(), true);
  try {
    const [result, deciding] = findings.observed(() => select(statement.body, null, findings));
    const { functions, incomplete } = findings;
    const facts: ViewFacts = { result, deciding, relations: findings.relationsBelow(), functions, incomplete };
    knownFacts.set(relation, facts);
    return facts;
  } catch (error) {
    if (!(error instanceof TooComplex) && !(error instanceof RangeError)) throw error;
    return unknown;
  }
}
