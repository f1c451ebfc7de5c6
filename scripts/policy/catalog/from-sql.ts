/**
 * A catalog made of DDL, e.g. the output of `pg_dump --schema-only`, over PostgreSQL's own names: what policy fixtures
 * are judged against where no database is at hand. Statements that make no names are passed over.
 */
import { type Body, bodyOf, list, node, nodes, strings, text } from "../../../gateway/postgres/sql/ast.ts";
import {
  Catalog,
  type CatalogColumn,
  type CatalogOperator,
  type CatalogRelation,
  type CatalogSnapshot,
} from "../../../gateway/postgres/sql/catalog.ts";
import { innerText } from "../../../gateway/postgres/sql/inner-text.ts";
import { plainTypeOid } from "../../../gateway/postgres/sql/names.ts";
import { type ParsedStatement, parseSql } from "../../../gateway/postgres/sql/parse.ts";
import { factsOfView } from "../../../gateway/postgres/sql/view.ts";

/** First OID of users' objects in PostgreSQL. */
const firstOid = 16_384;
/** A relation's OID and this are that of its rows' type, which DDL does not tell; of arrays of them, too. */
const rowTypesFrom = 2 ** 32;
export const temporarySchema = "pg_temp_3";

interface NamedColumn {
  readonly name: string;
  readonly typeOid: number;
}

export class SqlCatalog {
  readonly #base: CatalogSnapshot;
  #nextOid: number;
  #relations = new Map<number, CatalogRelation>();
  #schemas: Set<string>;
  #functions: Set<string>;
  #addedFunctions: Set<string>;
  #operators: CatalogOperator[];
  /** OIDs of relations whose rows columns have. */
  readonly #usedRows = new Set<number>();
  #version = 0;
  #catalog: Catalog | undefined;

  constructor(base: CatalogSnapshot) {
    this.#base = base;
    for (const relation of base.relations) this.#relations.set(relation.oid, relation);
    this.#schemas = new Set(base.schemas);
    this.#functions = new Set(base.functions);
    this.#addedFunctions = new Set(base.addedFunctions);
    this.#operators = [...base.operators];
    this.#nextOid = Math.max(firstOid, ...this.#relations.keys());
  }

  get catalog(): Catalog {
    this.#catalog ??= new Catalog({
      relations: [...this.#relations.values()],
      schemas: [...this.#schemas],
      functions: [...this.#functions],
      addedFunctions: [...this.#addedFunctions],
      operators: this.#operators,
      types: this.#base.types ?? [],
      rowTypes: [
        ...(this.#base.rowTypes ?? []),
        ...[...this.#usedRows].map((oid) => ({ typeOid: rowTypesFrom + oid, relationOid: oid })),
      ],
      searchPath: this.#base.searchPath,
      signature: `${this.#base.signature} ${this.#version}`,
    });
    return this.#catalog;
  }

  /** @throws Error with PostgreSQL's message and the line where the text does not parse. */
  apply(sql: string, searchPath: readonly string[] = this.#base.searchPath): void {
    // psql's own commands (\connect, \restrict) are not SQL; their lines stay, so that positions do.
    const plain = sql.replace(/^\\.*$/gm, "");
    const parsed = parseSql(plain);
    if (parsed.kind === "error") {
      const line = plain.slice(0, parsed.error.position ?? 0).split("\n").length;
      throw new Error(`line ${line}: ${parsed.error.message}`);
    }
    for (const statement of parsed.statements) {
      this.#take(statement, plain.slice(statement.start, statement.start + statement.length), searchPath);
      this.#version += 1;
      this.#catalog = undefined;
    }
  }

  #take({ kind, body }: ParsedStatement, outer: string, path: readonly string[]): void {
    switch (kind) {
      case "CreateSchemaStmt":
        this.#schemas.add(text(body.schemaname));
        return;
      case "CreateStmt":
        return this.#createTable(body, "r", path);
      case "CreateForeignTableStmt":
        return this.#createTable(bodyOf(body.base) ?? {}, "f", path);
      case "CreateSeqStmt":
        return this.#add(bodyOf(body.sequence), "S", [{ name: "last_value", typeOid: 20 }], null, path);
      case "CompositeTypeStmt":
        return this.#add(bodyOf(body.typevar), "c", this.#columns(list(body.coldeflist), path), null, path);
      case "ViewStmt":
      case "CreateTableAsStmt":
        return this.#createAs(kind, body, outer, path);
      case "SelectStmt":
        return;
      case "CreateFunctionStmt":
        return this.#addFunction(this.#qualified(strings(body.funcname), path));
      case "DefineStmt":
        return this.#define(body, path);
      case "AlterTableStmt":
        return this.#alter(body, path);
      case "RenameStmt":
        return this.#rename(body, path);
      case "DropStmt":
        for (const item of nodes(body.objects)) this.#drop(strings(item.body.items), path);
    }
  }

  #addFunction(name: string): void {
    this.#functions.add(name);
    if (/^(?:pg_catalog|information_schema)\./.test(name)) this.#addedFunctions.add(name);
  }

  /** For what a ROLLBACK takes back. */
  save() {
    return {
      relations: new Map(this.#relations),
      schemas: new Set(this.#schemas),
      functions: new Set(this.#functions),
      addedFunctions: new Set(this.#addedFunctions),
      operators: [...this.#operators],
    };
  }

  restore(saved: ReturnType<SqlCatalog["save"]>): void {
    this.#relations = saved.relations;
    this.#schemas = saved.schemas;
    this.#functions = saved.functions;
    this.#addedFunctions = saved.addedFunctions;
    this.#operators = saved.operators;
    this.#version += 1;
    this.#catalog = undefined;
  }

  #qualified(names: readonly string[], path: readonly string[]): string {
    return names.length > 1 ? names.slice(-2).join(".") : `${creation(path)}.${names[0] ?? ""}`;
  }

  find(rangeVar: Body | undefined, path: readonly string[]): CatalogRelation | undefined {
    const schema = text(rangeVar?.schemaname);
    for (const candidate of schema === "" ? path : [schema]) {
      const found = this.catalog.relation(candidate, text(rangeVar?.relname));
      if (found) return found;
    }
    return undefined;
  }

  #add(
    rangeVar: Body | undefined,
    kind: string,
    columns: readonly (NamedColumn & { generated?: string })[],
    definition: string | null,
    path: readonly string[],
    parents: readonly number[] = [],
  ): void {
    if (rangeVar === undefined) return;
    const schema = rangeVar.relpersistence === "t" ? temporarySchema : text(rangeVar.schemaname) || creation(path);
    const name = text(rangeVar.relname);
    const replaced = this.catalog.relation(schema, name);
    if (replaced) this.#relations.delete(replaced.oid);
    const oid = ++this.#nextOid;
    this.#schemas.add(schema);
    this.#relations.set(oid, {
      oid,
      schema,
      name,
      kind,
      columns: columns.map((one, index) => ({
        attnum: index + 1,
        name: one.name,
        typeOid: one.typeOid,
        typeModifier: -1,
        generated: one.generated ?? null,
      })),
      parents,
      definition,
    });
  }

  #columns(elements: readonly unknown[], path: readonly string[]): (NamedColumn & { generated?: string })[] {
    const context = { catalog: this.catalog, searchPath: path, labels: new Map() };
    return elements.flatMap((element) => {
      const one = node(element);
      if (one?.kind === "TableLikeClause")
        return [...(this.find(bodyOf(one.body.relation), path)?.columns ?? [])].map(plain);
      if (one?.kind !== "ColumnDef") return [];
      const typeName = bodyOf(one.body.typeName);
      const generated = nodes(one.body.constraints).find(({ body }) => body.contype === "CONSTR_GENERATED");
      return [
        {
          name: text(one.body.colname),
          typeOid: plainTypeOid(typeName, context) ?? this.#rowType(strings(typeName?.names), path) ?? 0,
          // Which columns it is made of is all that matters: the tree spells their names.
          ...(generated && { generated: JSON.stringify(generated.body.raw_expr) }),
        },
      ];
    });
  }

  #rowType(names: readonly string[], path: readonly string[]): number | undefined {
    const [relname = "", schemaname = ""] = names.toReversed();
    const found = this.find({ relname, schemaname }, path);
    if (found === undefined) return undefined;
    this.#usedRows.add(found.oid);
    return rowTypesFrom + found.oid;
  }

  #createTable(body: Body, kind: string, path: readonly string[]): void {
    const parents = nodes(body.inhRelations).flatMap((parent) => this.find(parent.body, path) ?? []);
    const inherited = parents.flatMap(({ columns }) => columns.map(plain));
    const own = this.#columns(list(body.tableElts), path);
    const all = [...inherited, ...own.filter(({ name }) => !inherited.some((one) => one.name === name))];
    const oids = parents.map(({ oid }) => oid);
    this.#add(bodyOf(body.relation), body.partspec === undefined ? kind : "p", all, null, path, oids);
  }

  #createAs(kind: string, body: Body, outer: string, path: readonly string[]): void {
    const into = bodyOf(body.into);
    const rangeVar = bodyOf(body.view) ?? bodyOf(into?.rel);
    const inner = node(body.query);
    const definition = (inner && innerText(outer, "as", inner)) ?? null;
    const relkind = kind === "ViewStmt" ? "v" : body.objtype === "OBJECT_MATVIEW" ? "m" : "r";
    const probe: CatalogRelation = { oid: 0, schema: "", name: "", kind: "v", columns: [], parents: [], definition };
    const { result } = factsOfView(probe, { catalog: this.catalog, searchPath: path, labels: new Map() });
    const aliases = strings(body.aliases ?? into?.colNames);
    const columns = result.columns.map((one, index) => ({
      name: aliases[index] ?? one.name,
      typeOid: one.bare?.column.typeOid ?? 0,
    }));
    this.#add(rangeVar, relkind, columns, relkind === "r" ? null : definition, path);
  }

  #define(body: Body, path: readonly string[]): void {
    const name = strings(body.defnames);
    if (body.kind === "OBJECT_AGGREGATE") this.#addFunction(this.#qualified(name, path));
    if (body.kind !== "OBJECT_OPERATOR") return;
    const option = nodes(body.definition).find(({ body: one }) =>
      ["function", "procedure"].includes(text(one.defname)),
    );
    const called = strings(node(option?.body.arg)?.body.names);
    const [schema = "", operator = ""] = [this.#qualified(name, path).split(".", 1)[0], name.at(-1)];
    this.#operators.push({ schema, name: operator, function: this.#qualified(called, path) });
  }

  #alter(body: Body, path: readonly string[]): void {
    for (const { body: command } of nodes(body.cmds)) {
      const relation = this.find(bodyOf(body.relation), path);
      if (relation === undefined) return;
      const definition = node(command.def);
      switch (command.subtype) {
        case "AT_AddColumn": {
          const attnum = Math.max(0, ...relation.columns.map((column) => column.attnum)) + 1;
          const added = this.#columns([command.def], path).map(
            (one): CatalogColumn => ({ attnum, typeModifier: -1, ...one, generated: one.generated ?? null }),
          );
          this.#replace({ ...relation, columns: [...relation.columns, ...added] });
          break;
        }
        case "AT_DropColumn":
          this.#replace({ ...relation, columns: relation.columns.filter(({ name }) => name !== command.name) });
          break;
        case "AT_AddInherit": {
          const parent = definition && this.find(definition.body, path);
          if (parent) this.#replace({ ...relation, parents: [...relation.parents, parent.oid] });
          break;
        }
        case "AT_AttachPartition": {
          const partition = this.find(bodyOf(definition?.body.name), path);
          if (partition) this.#replace({ ...partition, parents: [...partition.parents, relation.oid] });
        }
      }
    }
  }

  #rename(body: Body, path: readonly string[]): void {
    const relation = this.find(bodyOf(body.relation), path);
    if (relation === undefined) return;
    const renamed = (column: CatalogColumn) =>
      column.name === body.subname ? { ...column, name: text(body.newname) } : column;
    if (body.renameType === "OBJECT_COLUMN") this.#replace({ ...relation, columns: relation.columns.map(renamed) });
    else this.#replace({ ...relation, name: text(body.newname) });
  }

  #drop(names: readonly string[], path: readonly string[]): void {
    const [schema, name] = names.length > 1 ? [names.at(-2), names.at(-1)] : [undefined, names[0]];
    const found = this.find({ relname: name, ...(schema !== undefined && { schemaname: schema }) }, path);
    if (found) this.#relations.delete(found.oid);
  }

  #replace(relation: CatalogRelation): void {
    this.#relations.set(relation.oid, relation);
    this.#catalog = undefined;
  }
}

function plain({ name, typeOid }: CatalogColumn): NamedColumn {
  return { name, typeOid };
}

function creation(path: readonly string[]): string {
  return path.find((schema) => schema !== "pg_catalog" && !schema.startsWith("pg_temp")) ?? "public";
}
