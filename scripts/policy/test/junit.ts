/** Results as JUnit's XML, which CI systems read. */
import { relative } from "node:path";
import type { SessionResult, StepResult } from "./fixture-sessions.ts";
import type { RegoTest } from "./rego-tests.ts";

// Control characters have no form in XML 1.0.
// biome-ignore lint/suspicious/noControlCharactersInRegex: it is those that are replaced
const notXml = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;

function xmlEscaped(text: string): string {
  return text
    .toWellFormed()
    .replace(notXml, "\ufffd")
    .replace(/[&<>"\n\t\r]/g, (character) => `&#${character.charCodeAt(0)};`);
}

function attributes(given: Readonly<Record<string, string | number>>): string {
  return Object.entries(given)
    .map(([name, value]) => ` ${name}="${xmlEscaped(String(value))}"`)
    .join("");
}

interface Case {
  readonly name: string;
  readonly line?: number;
  readonly seconds: number;
  readonly failure: string | undefined;
}

function suite(name: string, file: string, cases: readonly Case[]): string {
  const failures = cases.filter(({ failure }) => failure !== undefined).length;
  const seconds = cases.reduce((total, one) => total + one.seconds, 0).toFixed(3);
  const lines = cases.map(({ name: title, line, seconds: time, failure }) => {
    const head = `<testcase${attributes({ classname: name, name: title, file, ...(line !== undefined && { line }), time: time.toFixed(3) })}`;
    if (failure === undefined) return `    ${head}/>`;
    const [first = ""] = failure.split("\n");
    return `    ${head}><failure${attributes({ message: first })}>${xmlEscaped(failure)}</failure></testcase>`;
  });
  const open = `  <testsuite${attributes({ name, file, tests: cases.length, failures, errors: 0, time: seconds })}>`;
  return [open, ...lines, "  </testsuite>"].join("\n");
}

/** @param failure says what is wrong with a step. */
export function junit(
  rego: readonly RegoTest[],
  sessions: readonly SessionResult[],
  failure: (session: SessionResult, step: StepResult) => string,
): string {
  const suites = sessions.map((session) => {
    const cases = session.steps.map((step) => ({
      name: `${step.number}: ${step.run}`,
      line: step.line,
      seconds: session.ms / 1_000 / session.steps.length,
      failure: step.differences.length > 0 ? failure(session, step) : undefined,
    }));
    return suite(session.name, relative(process.cwd(), session.path), cases);
  });
  for (const [file, tests] of Map.groupBy(rego, (one) => one.file)) {
    suites.push(suite("Rego unit tests", file, tests));
  }
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="policy test">\n${suites.join("\n")}\n</testsuites>\n`;
}
