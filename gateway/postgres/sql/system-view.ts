/** Whether a write to a relation ends at one of PostgreSQL's own: a view may hand it on (pg_settings sets parameters). */
import { type Body, visit } from "./ast.ts";
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
  // The text of views is spelled for the path of the session that took the snapshot.
  const spelled = { ...context, searchPath: context.catalog.searchPath };
  return parsed.statements.some(({ body }) =>
    tables(body).some((table) => {
      const found = findRelation(table, spelled);
      return found !== undefined && endsAtSystem(found, context, seen);
    }),
  );
}

function tables(statement: Body): Body[] {
  const found: Body[] = [];
  visit(statement, (key, body) => {
    if (key === "RangeVar") found.push(body);
    return true;
  });
  return found;
}
