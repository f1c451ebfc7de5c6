/** Labels of a target's columns as the gateway would bind them to a catalog: flows through views and children included. */
import { attributeKey, type Catalog, type CatalogRelation } from "../../../gateway/postgres/sql/catalog.ts";
import { bindLabels } from "../../../gateway/postgres/sql/labels.ts";
import { factsOfView } from "../../../gateway/postgres/sql/view.ts";
import { catalogOf } from "../subject.ts";

export interface CatalogLabels {
  /** Undefined where the catalog has no such column. */
  ofColumn(schema: string, relation: string, column: string): readonly string[] | undefined;
  /** Of all its columns, and of the relations below a view. */
  ofRelation(schema: string, relation: string): readonly string[] | undefined;
}

export type Labeller = (byName: ReadonlyMap<string, readonly string[]>) => CatalogLabels;

/** @param file DDL, or a snapshot. @throws Error that names it */
export function labellerOf(file: string): Labeller {
  const { catalog } = catalogOf(file, process.cwd());
  return (byName) => catalogLabels(catalog, byName);
}

function catalogLabels(catalog: Catalog, byName: ReadonlyMap<string, readonly string[]>): CatalogLabels {
  const { labels } = bindLabels(catalog, byName, new Map());
  const of = (oid: number, attnum: number) => labels.get(attributeKey(oid, attnum))?.labels ?? [];
  const below = (relation: CatalogRelation): readonly CatalogRelation[] =>
    relation.definition === null
      ? []
      : factsOfView(relation, { catalog, searchPath: catalog.searchPath, labels: new Map() }).relations;
  return {
    ofColumn(schema, name, columnName) {
      const relation = catalog.relation(schema, name);
      const column = relation?.columns.find((one) => one.name === columnName);
      return relation && column && of(relation.oid, column.attnum);
    },
    ofRelation(schema, name) {
      const relation = catalog.relation(schema, name);
      if (relation === undefined) return undefined;
      const all = [relation, ...below(relation)].flatMap((one) =>
        one.columns.flatMap((column) => of(one.oid, column.attnum)),
      );
      return [...new Set(all)].sort();
    },
  };
}
