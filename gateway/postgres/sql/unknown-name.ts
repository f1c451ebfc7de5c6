/**
 * Names that the target's catalog does not have: why an analysis is incomplete, and PostgreSQL's own error for it.
 * Source: PostgreSQL's errcodes (Appendix A), class 42.
 */
import type { CommandAnalysis } from "../../policy/input.ts";

export interface UnknownName {
  readonly sqlstate: string;
  readonly message: string;
}

interface Form extends Pick<UnknownName, "sqlstate"> {
  readonly before: string;
  readonly after: string;
  readonly message: (name: string) => string;
}

const forms = {
  relation: {
    ...{ sqlstate: "42P01", before: 'relation "', after: '" is not known' },
    message: (name) => `relation "${name}" does not exist`,
  },
  column: {
    ...{ sqlstate: "42703", before: '"', after: '" names no column that is known' },
    message: (name) => `column "${name}" does not exist`,
  },
  /** `a" of relation "b`. */
  writtenColumn: {
    ...{ sqlstate: "42703", before: 'column "', after: '" is not known' },
    message: (name) => `column "${name}" does not exist`,
  },
  /** `a.b`, which could also be b(a). */
  columnOfItem: {
    ...{ sqlstate: "42703", before: "column ", after: " is not known" },
    message: (name) => `column ${name} does not exist`,
  },
  range: {
    ...{ sqlstate: "42P01", before: '"', after: '.*" names nothing that is known' },
    message: (name) => `missing FROM-clause entry for table "${name}"`,
  },
  function: {
    ...{ sqlstate: "42883", before: "function ", after: " is not known" },
    message: (name) => `function ${name} does not exist`,
  },
} satisfies Record<string, Form>;

/** A reason of an incomplete analysis. */
export function unknownName(kind: keyof typeof forms, name: string): string {
  const { before, after } = forms[kind];
  return `${before}${name}${after}`;
}

/** What PostgreSQL would say of a command that is incomplete for such names alone; of several the first. */
export function unknownNameOf({ complete, incomplete }: CommandAnalysis): UnknownName | undefined {
  if (complete) return undefined;
  const found = incomplete.map((reason) => {
    const form = Object.values<Form>(forms).find(
      ({ before, after }) => reason.startsWith(before) && reason.endsWith(after),
    );
    if (form === undefined) return undefined;
    const { sqlstate, before, after, message } = form;
    return { sqlstate, message: message(reason.slice(before.length, -after.length)) };
  });
  return found.includes(undefined) ? undefined : found[0];
}
