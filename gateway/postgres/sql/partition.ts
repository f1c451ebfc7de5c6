/** Which partition a row is in tells the values that it was put there for. */
import type { Catalog, CatalogRelation } from "./catalog.ts";
import type { BaseColumn } from "./scope.ts";

/** What is told by the partition that a row of the table is in. */
export function columnsThatPlace(relation: CatalogRelation, catalog: Catalog): BaseColumn[] {
  return [...catalog.withDescendants([relation])].flatMap(keyOf);
}

/** What is told by a row's being in the relation: it may be a partition, of a partition. */
export function columnsThatPlaced(relation: CatalogRelation, catalog: Catalog): BaseColumn[] {
  return [...catalog.withAncestors([relation])].filter((one) => one !== relation).flatMap(keyOf);
}

/** What a table is partitioned by; an expression may use any column. */
export function keyOf(table: CatalogRelation): BaseColumn[] {
  const { partitionKey: key } = table;
  if (key === undefined) return [];
  const isIn = ({ attnum }: { attnum: number }) => key.includes(0) || key.includes(attnum);
  return table.columns.filter(isIn).map((column) => ({ relation: table, column }));
}
