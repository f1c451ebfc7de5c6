/** Whether a write to a relation ends at one of PostgreSQL's own: a view may hand it on (pg_settings sets parameters). */
import { type Body, text, visit } from "./ast.ts";
import type { CatalogRelation, NameContext } from "./catalog.ts";
import { findRelation } from "./names.ts";
import { parseSql } from "./parse.ts";

const isSystem = (schema: string) => schema === "pg_catalog" || schema === "information_schema";

export function endsAtSystem(relation: CatalogRelation, context: NameContext, seen = new Set<number>()): boolean {
  if (isSystem(relation.schema)) return true;
  if (relation.kind !== "v" || relation.definition === null || seen.has(relation.oid)) return false;
  seen.add(relation.oid);
  const parsed = parseSql(relation.definition);
  if (parsed.kind === "error") return true;
  const spelled = { ...context, searchPath: relation.spelledFor ?? context.catalog.searchPath };
  return parsed.statements.some(({ body }) => {
    const { tables, queries } = namesIn(body);
    return tables.some((table) => {
      const found = findRelation(table, spelled);
      // What is not found is not understood.
      return found === undefined ? !queries.has(text(table.relname)) : endsAtSystem(found, context, seen);
    });
  });
}

/** Tables, and queries of WITH. */
function namesIn(statement: Body): { readonly tables: readonly Body[]; readonly queries: ReadonlySet<string> } {
  const tables: Body[] = [];
  const queries = new Set<string>();
  visit(statement, (key, body) => {
    if (key === "RangeVar") tables.push(body);
    if (typeof body.ctename === "string") queries.add(body.ctename);
    return true;
  });
  return { tables, queries };
}
