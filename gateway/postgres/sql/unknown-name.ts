/**
 * Names that the target's catalog does not have: why an analysis is incomplete, and PostgreSQL's own error for it.
 * Source: PostgreSQL's errcodes (Appendix A), class 42.
 */

export interface UnknownName {
  readonly sqlstate: string;
  readonly message: string;
  /** Of the name in the text, in bytes of UTF-8. */
  readonly offset: number;
}

interface Form extends Pick<UnknownName, "sqlstate"> {
  /** Why the analysis is incomplete. */
  readonly reason: (name: string) => string;
  readonly message: (name: string) => string;
}

const forms = {
  relation: {
    ...{ sqlstate: "42P01", reason: (name) => `relation "${name}" is not known` },
    message: (name) => `relation "${name}" does not exist`,
  },
  column: {
    ...{ sqlstate: "42703", reason: (name) => `"${name}" names no column that is known` },
    message: (name) => `column "${name}" does not exist`,
  },
  /** `a" of relation "b`. */
  writtenColumn: {
    ...{ sqlstate: "42703", reason: (name) => `column "${name}" is not known` },
    message: (name) => `column "${name}" does not exist`,
  },
  /** `a.b`, which could also be b(a). */
  columnOfItem: {
    ...{ sqlstate: "42703", reason: (name) => `column ${name} is not known` },
    message: (name) => `column ${name} does not exist`,
  },
  range: {
    ...{ sqlstate: "42P01", reason: (name) => `"${name}.*" names nothing that is known` },
    message: (name) => `missing FROM-clause entry for table "${name}"`,
  },
  function: {
    ...{ sqlstate: "42883", reason: (name) => `function ${name} is not known` },
    message: (name) => `function ${name} does not exist`,
  },
} satisfies Record<string, Form>;

export type UnknownKind = keyof typeof forms;

/** @returns why the analysis is incomplete, and what PostgreSQL says of it. */
export function unknownName(
  kind: UnknownKind,
  name: string,
): Omit<UnknownName, "offset"> & { readonly reason: string } {
  const { sqlstate, reason, message }: Form = forms[kind];
  return { sqlstate, reason: reason(name), message: message(name) };
}
