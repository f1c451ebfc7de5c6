/**
 * The demo's agent: what it does through the gateway, step by step, shown as a transcript. A step that does not show
 * what it must throws `StepFailed`.
 */
import { join } from "node:path";
import postgres from "postgres";
import { paint, type Terminal, table } from "../../gateway/cli/terminal.ts";
import { type Demo, type Person, people, root, targetName } from "./environment.ts";

export class StepFailed extends Error {}

const holdTimeoutMs = 20_000;

export async function tellStory(demo: Demo, terminal: Terminal): Promise<void> {
  const agent = postgres({
    ...{ host: "127.0.0.1", port: demo.postgresPort, database: targetName, max: 1, fetch_types: false },
    ...{ username: people.reporter, password: () => demo.token("reporter") },
    onnotice: (notice) => onNotice(notice.message ?? ""),
  });
  let onNotice: (message: string) => void = () => undefined;
  const say = (text = "") => terminal.out(`${text}\n`);
  const title = (text: string) => say(`\n${paint(terminal, "bold", text)}`);
  const prompt = (text: string) => say(`${paint(terminal, "dim", `${targetName}=>`)} ${paint(terminal, "cyan", text)}`);
  const refused = async (statement: string) => {
    prompt(statement);
    const error = await agent.unsafe(statement).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (!(error instanceof postgres.PostgresError) || error.code !== "42501") {
      throw new StepFailed(`${statement}\nwas not denied: ${error ?? "it ran"}`);
    }
    say(`${paint(terminal, "red", "ERROR:")}  ${error.message}`);
    if (error.detail) say(`DETAIL:  ${error.detail}`);
    if (error.hint) say(paint(terminal, "dim", `HINT:  ${error.hint}`));
  };
  try {
    title("1  The agent reads customers; columns that are labelled come masked");
    const read = "SELECT id, name, email, ssn FROM customers ORDER BY id LIMIT 3";
    prompt(read);
    const shown = await agent.unsafe(read);
    const real = await demo.direct.unsafe(read);
    say(rowsTable(terminal, shown));
    for (const [index, row] of shown.entries()) {
      if (row.name !== real[index]?.name) throw new StepFailed(`${row.name} is not what is in the table`);
      if (row.ssn === real[index]?.ssn || row.email === real[index]?.email) throw new StepFailed("a value in clear");
    }
    if (shown.length !== 3) throw new StepFailed(`${shown.length} rows instead of 3`);

    title("2  It tries to drop a table; policy denies, and the connection lives on");
    await refused("DROP TABLE orders");
    const [count] = await agent.unsafe("SELECT count(*) FROM orders");
    if (count?.count !== "1500") throw new StepFailed(`orders has ${count?.count} rows instead of 1500`);

    title("3  It changes a row; the command is held on the wire until a person approves it");
    const update = "UPDATE orders SET status = 'refunded' WHERE id = 17";
    const held = Promise.withResolvers<string>();
    onNotice = (message) => {
      say(`${paint(terminal, "yellow", "NOTICE:")}  ${message}`);
      const id = /held for approval (\S+):/.exec(message)?.[1];
      if (id !== undefined) held.resolve(id);
    };
    prompt(update);
    const running = agent.unsafe(update).then((result) => result.count);
    const early = running.then((rows) => Promise.reject(new StepFailed(`the UPDATE was not held: ${rows} rows`)));
    early.catch(() => undefined);
    const id = await within(Promise.race([held.promise, early]), "the UPDATE was neither held nor answered");
    say(`${paint(terminal, "dim", `${people.dora} $`)} sallyport approve ${id}`);
    say((await sallyport(demo, "dora", ["approve", id], terminal)).trimEnd());
    if ((await within(running, "the approved UPDATE did not end")) !== 1) throw new StepFailed("not one row updated");
    say("UPDATE 1");
    const [order] = await demo.direct.unsafe("SELECT status FROM orders WHERE id = 17");
    if (order?.status !== "refunded") throw new StepFailed(`the order is ${order?.status}, not refunded`);

    title("4  It tries to get a number out by other ways; each is denied");
    for (const statement of [
      "SELECT reverse(ssn) FROM customers",
      "COPY customers (ssn) TO STDOUT",
      "WITH c AS (SELECT ssn || '' AS note FROM customers) SELECT note FROM c",
    ]) {
      await refused(statement);
    }
  } finally {
    await agent.end();
  }

  title("5  An auditor replays that session, and verifies that nothing in it was changed");
  const session = await agentSession(demo, terminal);
  say(`${paint(terminal, "dim", `${people.iris} $`)} sallyport replay ${session}`);
  const replay = await sallyport(demo, "iris", ["replay", session], terminal);
  say(replay.trimEnd());
  for (const expected of ["DROP TABLE orders", "UPDATE orders", "reverse(ssn)"]) {
    if (!replay.includes(expected)) throw new StepFailed(`the replay does not show ${expected}`);
  }
  const [first] = await demo.direct.unsafe("SELECT ssn FROM customers ORDER BY id LIMIT 1");
  if (replay.includes(first?.ssn)) throw new StepFailed("the replay shows a number in clear");
  say(`${paint(terminal, "dim", `${people.iris} $`)} sallyport verify ${session}`);
  say((await sallyport(demo, "iris", ["verify", session], terminal)).trimEnd());
}

async function agentSession(demo: Demo, terminal: Terminal): Promise<string> {
  const page = JSON.parse(await sallyport(demo, "iris", ["sessions", "--json"], terminal)) as {
    readonly sessions: readonly { readonly id: string; readonly identity: { readonly email: string } }[];
  };
  const mine = page.sessions.find((session) => session.identity.email === people.reporter);
  if (mine === undefined) throw new StepFailed("the session is not in the recording");
  return mine.id;
}

/** The real command line, as `person`. @throws StepFailed with what it said when it fails */
async function sallyport(demo: Demo, person: Person, line: readonly string[], terminal: Terminal): Promise<string> {
  const child = Bun.spawn([process.execPath, join(root, "gateway/cli.ts"), ...line], {
    env: {
      ...{ PATH: process.env.PATH ?? "", HOME: demo.folder, COLUMNS: String(terminal.columns) },
      ...{ SALLYPORT_GATEWAY: demo.api, SALLYPORT_TOKEN: await demo.token(person) },
    },
    ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe" },
  });
  const [out, errors] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new StepFailed(`sallyport ${line.join(" ")} failed: ${errors || out}`);
  return out;
}

function rowsTable(terminal: Terminal, rows: readonly Record<string, unknown>[]): string {
  const names = Object.keys(rows[0] ?? {});
  return table(
    terminal,
    names.map((name) => ({ title: name })),
    rows.map((row) => names.map((name) => ({ text: String(row[name]) }))),
  ).trimEnd();
}

async function within<T>(promise: Promise<T>, otherwise: string): Promise<T> {
  const timeout = AbortSignal.timeout(holdTimeoutMs);
  const late = new Promise<never>((_, reject) =>
    timeout.addEventListener("abort", () => reject(new StepFailed(otherwise)), { once: true }),
  );
  return Promise.race([promise, late]);
}
