/** `bun run demo [--once]`: a database, an identity provider and the gateway, and an agent that goes through them. */
import { parseArgs } from "node:util";
import { paint, processTerminal } from "../../gateway/cli/terminal.ts";
import { type Demo, people, startDemo, targetName } from "./environment.ts";
import { StepFailed, tellStory } from "./story.ts";

const { values: flags } = parseArgs({ options: { once: { type: "boolean", default: false } } });
const terminal = processTerminal();

let demo: Demo | undefined;
let stopping = false;
async function end(status: number): Promise<never> {
  if (!stopping) {
    stopping = true;
    await demo?.stop();
  }
  process.exit(status);
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void end(flags.once ? 1 : 0));

try {
  const startedMs = performance.now();
  terminal.out("Starting ");
  let first = true;
  demo = await startDemo((what) => {
    terminal.out(`${first ? "" : ", "}${what}`);
    first = false;
  });
  terminal.out(` … ready in ${((performance.now() - startedMs) / 1_000).toFixed(1)} s\n`);
  await tellStory(demo, terminal);
  if (flags.once) {
    terminal.out(`\n${paint(terminal, "green", "Every step showed what it must.")}\n`);
    await end(0);
  }
  const { api, folder, issuer, postgresPort } = demo;
  terminal.out(`
${paint(terminal, "bold", "Now you")}, as an analyst (${people.ada}) who sees labelled columns masked:

  PGPASSWORD=$(cat ${quoted(`${folder}/ada.token`)}) \\
    psql "host=127.0.0.1 port=${postgresPort} dbname=${targetName} user=${people.ada}"

API   ${api}   (console pages are not there yet)
Login bun run sallyport login --issuer ${issuer} --client-id sallyport-cli   (or --device)
CLI   SALLYPORT_GATEWAY=${api} SALLYPORT_TOKEN=$(cat ${quoted(`${folder}/iris.token`)}) bun run sallyport sessions
Log   ${folder}/gateway.log

Tokens of reporter (agent), ada, dora (approves) and iris (audits) are in ${folder}, kept fresh.
Ctrl-C stops everything and removes that folder.
`);
  const status = await demo.gatewayEnded;
  if (!stopping) {
    terminal.err(`The gateway ended with status ${status}; see ${folder}/gateway.log\n`);
    await end(1);
  }
} catch (error) {
  const what = error instanceof StepFailed ? "This step did not show what it must:" : "The demo could not run:";
  terminal.err(`\n${paint(terminal, "red", what)} ${(error as Error).message}\n`);
  await end(1);
}

function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}
