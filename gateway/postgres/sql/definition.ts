/** DDL and what governs access: the relations it names, and the functions and columns its expressions use. */
import { type Body, bodyOf, list, node, nodes, stringOf, strings, text, visit } from "./ast.ts";
import { attributeKey, type CatalogRelation, type NameContext } from "./catalog.ts";
import { expressionOperators, useField, useFunction } from "./expression.ts";
import type { Findings } from "./findings.ts";
import {
  creationSchema,
  findFunctions,
  findRelation,
  findRelationNamed,
  isSystemSchema,
  useOperator,
} from "./names.ts";
import { keyOf } from "./partition.ts";
import { setting } from "./session-statement.ts";
import type { Kind } from "./statement-kind.ts";

/** Definitions whose parts are all seen by the walk below; any other kind is incomplete. */
const understood: Readonly<Record<string, string>> = {
  CreateStmt: "CREATE TABLE",
  AlterTableStmt: "ALTER TABLE",
  AlterTableMoveAllStmt: "ALTER TABLE",
  DropStmt: "DROP",
  RenameStmt: "RENAME",
  IndexStmt: "CREATE INDEX",
  CreateSchemaStmt: "CREATE SCHEMA",
  CreateSeqStmt: "CREATE SEQUENCE",
  AlterSeqStmt: "ALTER SEQUENCE",
  CommentStmt: "COMMENT",
  CreateEnumStmt: "CREATE TYPE",
  AlterEnumStmt: "ALTER TYPE",
  CompositeTypeStmt: "CREATE TYPE",
  CreateDomainStmt: "CREATE DOMAIN",
  AlterDomainStmt: "ALTER DOMAIN",
  AlterObjectSchemaStmt: "ALTER SCHEMA",
  CreateStatsStmt: "CREATE STATISTICS",
  RefreshMatViewStmt: "REFRESH MATERIALIZED VIEW",
  ReindexStmt: "REINDEX",
  ClusterStmt: "CLUSTER",
  RepackStmt: "REPACK",
};
const runsLater = new Set([
  "CreateFunctionStmt",
  "AlterFunctionStmt",
  "CreateTrigStmt",
  "CreateEventTrigStmt",
  "RuleStmt",
  "CreateExtensionStmt",
  "CreateCastStmt",
  "CreateOpClassStmt",
  "DefineStmt",
]);
const featuresOf: Readonly<Record<string, string>> = {
  CreateFunctionStmt: "create.function",
  CreateTrigStmt: "create.trigger",
  RuleStmt: "create.rule",
  CreateExtensionStmt: "create.extension",
  RefreshMatViewStmt: "refresh",
};

export function definition(kind: string, body: Body, findings: Findings): Kind {
  findings.usesNames = true;
  const feature = featuresOf[kind];
  if (feature) findings.features.add(feature);
  if (kind === "CreateFunctionStmt") functionOptions(body, findings);
  if (runsLater.has(kind)) findings.incomplete.add("what it defines runs later, where it cannot be judged");
  else if (understood[kind] === undefined) findings.incomplete.add(`${kind.replace(/Stmt$/, "")} is not understood`);
  const spelledKind = kind
    .replace(/Stmt$/, "")
    .replace(/([a-z])([A-Z])/g, "$1 $2")
    .toUpperCase();
  if (kind === "CreateSchemaStmt" && !nodes(body.schemaElts).every((one) => plainElements.has(one.kind))) {
    findings.incomplete.add("CREATE SCHEMA with more than tables, indexes and sequences in it: send them one by one");
  }
  const created = kind === "CreateStmt" ? "relation" : kind === "CreateSeqStmt" ? "sequence" : undefined;
  named(body, created, findings);
  if (kind === "RenameStmt") findings.newNames.push(text(body.newname));
  if (kind === "AlterTableStmt") triedOnValues(body, findings);
  if (kind === "CreateStmt" && body.partbound !== undefined) {
    for (const { body: parent } of nodes(body.inhRelations)) {
      const table = findRelation(parent, findings.context);
      if (table) partitionKey(table, undefined, findings);
    }
  }
  if (kind === "AlterDomainStmt" && /^[CVO]$/.test(text(body.subtype))) domainCheck(findings);
  if (kind === "AlterObjectSchemaStmt" && /^(?:pg_|information_schema$)/.test(text(body.newschema))) {
    findings.incomplete.add("what lies in PostgreSQL's own schemas counts as its own");
  }
  if (kind === "RenameStmt" || kind === "AlterObjectSchemaStmt") {
    if (namesSystemObject(body, findings.context))
      findings.incomplete.add("PostgreSQL's own objects are known by their names");
    if (body.objectType === "OBJECT_EXTENSION")
      findings.incomplete.add("which functions an extension has is not known");
    // Under a name that is on the list of allowed ones it could be called.
    for (const name of functionsNamed(body, findings.context)) findings.calls(name);
    if (body.renameType === "OBJECT_SCHEMA")
      for (const name of findings.context.catalog.functionsIn(text(body.subname))) findings.calls(name);
  }
  if (kind === "DropStmt") listed(text(body.removeType), list(body.objects), findings);
  else if (kind === "CommentStmt" || kind === "SecLabelStmt") listed(text(body.objtype), [body.object], findings);
  return {
    verb:
      kind === "DropStmt"
        ? `DROP ${text(body.removeType).replace("OBJECT_", "").replace("MATVIEW", "MATERIALIZED VIEW").replaceAll("_", " ")}`
        : (understood[kind] ?? spelledKind),
    class: changesRights(kind, body) ? "dcl" : "ddl",
  };
}

/** Whether what is renamed or moved is PostgreSQL's own, or a schema takes such a name. */
function namesSystemObject(body: Body, context: NameContext): boolean {
  const relation = bodyOf(body.relation);
  if (relation) return isSystemSchema(findRelation(relation, context)?.schema ?? text(relation.schemaname));
  const kind = text(body.renameType ?? body.objectType);
  if (kind === "OBJECT_SCHEMA") return isSystemSchema(text(body.subname)) || isSystemSchema(text(body.newname));
  if (functionsNamed(body, context).some((name) => isSystemSchema(name.split(".")[0] ?? ""))) return true;
  if (kind !== "OBJECT_TYPE" && kind !== "OBJECT_DOMAIN") return false;
  const [name = "", schema = ""] = strings(bodyOf(bodyOf(body.object)?.List)?.items).reverse();
  const { catalog } = context;
  const isUsers = (one: string) => catalog.hasType(one, name) || catalog.relation(one, name) !== undefined;
  return schema === "" ? !context.searchPath.some(isUsers) : isSystemSchema(schema);
}

function functionsNamed(body: Body, context: NameContext): readonly string[] {
  return findFunctions(strings(bodyOf(bodyOf(body.object)?.ObjectWithArgs)?.objname), context);
}

/** What reads every value, and fails by what it is. */
function triedOnValues(body: Body, findings: Findings): void {
  const relation = findRelation(bodyOf(body.relation) ?? {}, findings.context);
  if (relation === undefined) return;
  for (const { body: command } of nodes(body.cmds)) {
    const attached = bodyOf(node(command.def)?.body.name);
    if (command.subtype === "AT_AttachPartition" && attached)
      partitionKey(relation, findRelation(attached, findings.context), findings);
    if (command.subtype !== "AT_AlterColumnType" && command.subtype !== "AT_SetNotNull") continue;
    const column = relation.columns.find(({ name }) => name === command.name);
    if (column) findings.source({ relation, column }, "derived");
  }
}

/**
 * The values of the partition for all others are held against bounds that the statement chooses, those of one that is
 * attached against the bounds of the tables above, too.
 */
function partitionKey(table: CatalogRelation, partition: CatalogRelation | undefined, findings: Findings): void {
  const held = (relation: CatalogRelation, bounds: Iterable<CatalogRelation>) => {
    const names = new Set([...bounds].flatMap(keyOf).map(({ column }) => column.name));
    for (const column of relation.columns)
      if (names.has(column.name)) findings.source({ relation, column }, "predicate");
  };
  held(table, [table]);
  if (partition) held(partition, findings.context.catalog.withAncestors([table]));
}

/** PostgreSQL's own types have OIDs below it. */
const usersOidMin = 16_384;

/** A new condition of a domain is tried on every value of it. Which columns have it is not known: any type of a user may. */
function domainCheck(findings: Findings): void {
  for (const relation of findings.context.catalog.relations()) {
    for (const column of relation.columns) {
      const isLabelled = findings.context.labels.has(attributeKey(relation.oid, column.attnum));
      if (isLabelled && column.typeOid >= usersOidMin) findings.source({ relation, column }, "derived");
    }
  }
}

const plainElements = new Set(["CreateStmt", "IndexStmt", "CreateSeqStmt"]);

/** Who owns an object may do all with it; a role's name is what is granted to. */
function changesRights(kind: string, body: Body): boolean {
  if (kind === "RenameStmt") return body.renameType === "OBJECT_ROLE";
  return nodes(body.cmds).some((one) => one.body.subtype === "AT_ChangeOwner");
}

/** Relations by name, and the functions and columns of expressions (DEFAULT, CHECK, USING, index keys). */
export function named(body: Body, created: string | undefined, findings: Findings): void {
  const relations: CatalogRelation[] = [];
  const columns = new Set<string>();
  const fields: string[] = [];
  const types: string[][] = [];
  /** Referenced without a list of columns: by their primary keys, which are not known here. */
  const keyed = new Set<CatalogRelation>();
  visit(body, (key, one) => {
    if (typeof one.relname === "string") {
      if (key === created && one === body[created]) {
        findings.namedRelation(creationSchema(one, findings.context), one.relname, "ddl", null);
        if (one.relpersistence === "t") findings.features.add("temp");
        return false;
      }
      const relation = findRelation(one, findings.context);
      if (relation) {
        findings.relation(relation, "ddl");
        relations.push(relation);
      } else findings.namedRelation(text(one.schemaname), one.relname, "ddl", null);
      return false;
    }
    if (key === "SelectStmt" || key === "SubLink") {
      findings.incomplete.add("a query inside a definition");
      return false;
    }
    // A setting of a role, a database, a function or the server is as dangerous as the session's own, and lasts longer.
    if (key === "setstmt" || key === "VariableSetStmt") {
      setting(one, findings);
      return false;
    }
    if (key === "A_Expr" || key === "CaseExpr") expressionOperators({ kind: key, body: one }, findings);
    // a.f and (value).f are columns, or calls of the function of that name.
    if (key === "A_Indirection") fields.push(...strings(one.indirection));
    if (key === "ColumnRef") fields.push(...strings(one.fields).slice(1));
    if (key === "typeName" || key === "TypeName") types.push(strings(one.names));
    if (key === "FuncCall")
      useFunction(strings(one.funcname), findings, {
        sqlSyntax: one.funcformat === "COERCE_SQL_SYNTAX",
        location: one.location,
      });
    if (key === "ColumnRef") for (const name of strings(one.fields)) columns.add(name);
    if (key === "IndexElem" || key === "PartitionElem" || key === "StatsElem") columns.add(text(one.name));
    if (key === "Constraint") {
      const referenced = one.pk_attrs === undefined ? bodyOf(one.pktable) : undefined;
      const table = referenced && findRelation(referenced, findings.context);
      if (table) keyed.add(table);
      for (const { body: pair } of nodes(one.exclusions)) useOperator(node(list(pair.items)[1])?.body.items, findings);
      for (const field of ["pk_attrs", "fk_attrs", "keys"]) for (const name of strings(one[field])) columns.add(name);
    }
    return true;
  });
  for (const name of fields) {
    columns.add(name);
    useField(name, findings);
  }
  // A composite type's fields are those of its relation.
  for (const names of types) {
    const relation = findRelationNamed(names, findings.context);
    if (relation) relations.push(relation);
  }
  // Which relation an expression's name belongs to follows from the kind of definition; any that has it counts.
  for (const relation of relations) {
    const whole = columns.has(relation.name) || keyed.has(relation);
    for (const column of relation.columns) {
      if (whole || columns.has(column.name)) findings.source({ relation, column }, "derived");
    }
  }
}

const relationTypes = new Set([
  "OBJECT_TABLE",
  "OBJECT_VIEW",
  "OBJECT_MATVIEW",
  "OBJECT_FOREIGN_TABLE",
  "OBJECT_SEQUENCE",
  "OBJECT_INDEX",
]);

/** They are named by their relation and a name of their own. */
const partTypes = new Set(["OBJECT_COLUMN", "OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER", "OBJECT_POLICY", "OBJECT_RULE"]);

/** Relations that DROP, COMMENT and SECURITY LABEL name as lists of strings. */
function listed(type: string, objects: readonly unknown[], findings: Findings): void {
  const isPart = partTypes.has(type);
  if (!isPart && !relationTypes.has(type)) return;
  for (const object of objects) {
    const items = bodyOf(bodyOf(object)?.List)?.items;
    const single = stringOf(object);
    const names = items === undefined ? (single === undefined ? [] : [single]) : strings(items);
    const path = isPart ? names.slice(0, -1) : names;
    const name = path.at(-1);
    if (name === undefined) continue;
    const relation = findRelationNamed(path, findings.context);
    if (relation) findings.relation(relation, "ddl");
    else findings.namedRelation(path.at(-2) ?? "", name, "ddl", null);
  }
}

function functionOptions(body: Body, findings: Findings): void {
  for (const { body: option } of nodes(body.options)) {
    if (option.defname === "security") findings.features.add("security_definer");
  }
}

/** GRANT, roles, owners, and settings of the server. */
export function control(kind: string, body: Body, findings: Findings): Kind {
  findings.usesNames = true;
  if (kind === "CreateRoleStmt" || kind.startsWith("AlterRole")) findings.features.add("alter.role");
  if (kind === "AlterSystemStmt") findings.features.add("alter.system");
  if (kind === "LoadStmt") findings.features.add("load");
  for (const { body: option } of nodes(body.options)) {
    if (option.defname === "password") findings.features.add("password");
  }
  named(body, undefined, findings);
  const verbs: Readonly<Record<string, string>> = {
    GrantStmt: body.is_grant === true ? "GRANT" : "REVOKE",
    GrantRoleStmt: body.is_grant === true ? "GRANT ROLE" : "REVOKE ROLE",
    AlterSystemStmt: "ALTER SYSTEM",
    LoadStmt: "LOAD",
  };
  const spelledKind = kind
    .replace(/Stmt$/, "")
    .replace(/([a-z])([A-Z])/g, "$1 $2")
    .toUpperCase();
  return { verb: verbs[kind] ?? spelledKind, class: "dcl", statement: { changesCatalog: true, changesSession: true } };
}

export const controls = new Set([
  "GrantStmt",
  "GrantRoleStmt",
  "AlterDefaultPrivilegesStmt",
  "CreateRoleStmt",
  "AlterRoleStmt",
  "AlterRoleSetStmt",
  "DropRoleStmt",
  "ReassignOwnedStmt",
  "DropOwnedStmt",
  "AlterOwnerStmt",
  "AlterSystemStmt",
  "LoadStmt",
]);
