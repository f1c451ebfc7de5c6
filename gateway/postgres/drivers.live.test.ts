/**
 * What drivers' own test suites (scripts/drivers/) found to be told apart from PostgreSQL, message by message: the whole
 * gateway as a process, under a policy that allows everything.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { startGateway } from "../../scripts/bench/postgres-processes.ts";
import { startIdentityProvider } from "../../scripts/demo/identity-provider.ts";
import { type RunningPostgres, startPostgres } from "../../scripts/postgres/server.ts";
import {
  bind,
  connectWire,
  execute,
  parse,
  query,
  sync,
  type WireClientOptions,
} from "../../scripts/postgres/wire-client.ts";
import { limits } from "../limits.ts";
import { encodeCancelRequest, encodeFrontendMessage } from "./frontend-encoder.ts";
import type { BackendMessage, FrontendMessage } from "./messages.ts";
import { MessageWriter } from "./writer.ts";

const email = "ann@example.com";
let target: RunningPostgres;
let provider: Awaited<ReturnType<typeof startIdentityProvider>>;
let gateway: Awaited<ReturnType<typeof startGateway>>;

beforeAll(async () => {
  target = await startPostgres();
  provider = await startIdentityProvider({ users: [{ id: "ann", email, groups: [] }] });
  gateway = await startGateway({
    ...{ server: target, issuer: provider.issuer, durability: "group" },
    caller: { email, token: await provider.mint("ann") },
    bundle: join(import.meta.dir, "../../scripts/drivers/allow-all/bundle.tar.gz"),
  });
}, 60_000);

afterAll(async () => {
  await gateway?.stop();
  await provider?.stop();
  await target?.stop();
});

const open = (given: Partial<WireClientOptions> = {}) => connectWire({ ...gateway.endpoint, ...given });

test.each([
  ["a password that is no token", { password: "wrong" }, `28P01: password authentication failed for user "${email}"`],
  ["another's user", { user: "eve" }, '28000: password authentication failed for user "eve"'],
  ["an unknown parameter", { parameters: { nosuch: "1" } }, '22023: unsupported startup parameter: "nosuch"'],
])("%s is refused at login in words that drivers know", async (_, given, words) => {
  const fault = await open(given).catch((error: Error) => error);
  expect(String((fault as Error).cause)).toContain(`FATAL ${words}`);
});

test("a target that ends the session says so in its own words, once", async () => {
  const ours = await open();
  const answers = await ours.exchange(query("select pg_terminate_backend(pg_backend_pid())"));
  expect(answers.filter((answer) => answer.startsWith("FATAL"))).toEqual(["FATAL 57P01"]);
});

test("a message beyond the limit is refused in words, however much of it is still being sent", async () => {
  const ours = await open();
  const answers = await ours.exchange(query(`select '${"x".repeat(60_000_000)}'`));
  expect(answers).toEqual(["FATAL 54000"]);
});

test("a cancel request with another key than the session's own cancels nothing", async () => {
  const ours = await open();
  const sleeping = ours.exchange(query("select pg_sleep(0.5)"));
  await Bun.sleep(100);
  const request = { processId: ours.processId ?? 0, secretKey: Buffer.from([1, 2, 3, 4]) };
  const socket = connect(gateway.endpoint.port, "127.0.0.1", () =>
    socket.end(encodeCancelRequest(new MessageWriter(), request).take()),
  );
  expect(await sleeping).toContain("SELECT 1");
  ours.end();
});

test("what is sent once a cancel request has been answered is not cancelled by it", async () => {
  const ours = await open();
  for (let round = 0; round < 20; round++) {
    expect(await ours.exchange(query("select 1"))).toContain("SELECT 1");
    await ours.cancel();
    expect(await ours.exchange(query("select pg_sleep(0.03)"))).toContain("SELECT 1");
  }
  ours.end();
});

describe("a cancel while names are read, or a timeout for the lock they need", () => {
  const made = "create temp table made (x int)";
  const run = (text: string) => [parse(text), bind(), execute()];
  const messages = {
    "refuses the query that waits for them": [query("select now()")],
    "refuses the batch that waits for them": [...run("select now()"), ...run("select 2"), sync],
    "ends the batch in which they changed": [...run("create temp table more (x int)"), ...run("select now()"), sync],
  };
  const cases = Object.entries(messages).flatMap(([does, sent]) => [
    { does, sent, error: "57014" },
    { does, sent, error: "55P03" },
  ]);
  for (const { does, sent, error } of cases) {
    test(`${does}, with ${error}, and the session goes on`, async () => {
      const other = await connectWire({ ...target });
      const ours = await open();
      if (error === "55P03") await ours.exchange(query("set lock_timeout = 200"));
      await ours.exchange(query(made));
      await other.exchange(query("begin; lock table pg_catalog.pg_inherits in access exclusive mode"));
      const answers = ours.exchange(...sent);
      const isWaiting = query(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' having count(*) = 1",
      );
      while (error === "57014" && !(await other.exchange(isWaiting)).includes("SELECT 1")) await Bun.sleep(10);
      if (error === "57014") await ours.cancel();
      expect((await answers).slice(-2)).toEqual([`ERROR ${error}`, "ReadyForQuery"]);
      await other.exchange(query("rollback"));
      expect(await ours.exchange(query("select x from made"))).toContain("SELECT 0");
      other.end();
      ours.end();
    });
  }
});

describe("what names nothing waits for no names", () => {
  const changed = query("create temp table if not exists changed (x int)");
  const serializable = query("set transaction isolation level serializable");
  test.each<[string, FrontendMessage[]]>([
    ["BEGIN", [query("begin"), query("rollback"), query("begin")]],
    ["START TRANSACTION after a ROLLBACK", [query("begin"), query("rollback"), query("start transaction")]],
    ["START TRANSACTION after DDL", [changed, query("start transaction")]],
    ["AND CHAIN", [query("begin"), changed, query("commit and chain")]],
  ])("SET TRANSACTION comes before any query of a transaction: %s", async (_, before) => {
    const ours = await open();
    for (const message of before) await ours.exchange(message);
    expect(await ours.exchange(serializable)).toEqual(["SET", "ReadyForQuery"]);
    ours.end();
  });

  test("a timeout too short for reading them can be lifted, and its transaction ended", async () => {
    const other = await connectWire({ ...target });
    const ours = await open();
    await ours.exchange(query("begin"), query("create temp table hurried (x int)"));
    await other.exchange(query("begin; lock table pg_catalog.pg_inherits in access exclusive mode"));
    await ours.exchange(query("set statement_timeout = 500"));
    expect(await ours.exchange(query("select now()"))).toEqual(["ERROR 57014", "ReadyForQuery"]);
    expect(await ours.exchange(query("rollback"))).toEqual(["ROLLBACK", "ReadyForQuery"]);
    await ours.exchange(query("set statement_timeout = 500"));
    expect(await ours.exchange(query("select now()"))).toEqual(["ERROR 57014", "ReadyForQuery"]);
    expect(await ours.exchange(query("set statement_timeout = 0"))).toEqual(["SET", "ReadyForQuery"]);
    await other.exchange(query("rollback"));
    expect(await ours.exchange(query("select now()"))).toContain("SELECT 1");
    ours.end();
    other.end();
  });
});

describe("a client that sends no more", () => {
  test("gets the answers to what it sent", async () => {
    const ours = await open();
    await ours.exchange(query("create temp table left_over (x int)"));
    ours.send(query("insert into left_over values (1)"), query("select count(*) from left_over"));
    ours.end();
    expect(await ours.untilClosed()).toEqual([
      ...["INSERT 0 1", "ReadyForQuery"],
      ...["RowDescription", "DataRow", "SELECT 1", "ReadyForQuery"],
    ]);
  });

  test.each<[string, FrontendMessage[]]>([
    ["before its data", [query("copy left_open from stdin")]],
    ["within its data", [query("copy left_open from stdin"), { type: "CopyData", data: Buffer.from("1\n") }]],
    ["before its data, in a batch", [parse("copy left_open from stdin"), bind(), execute()]],
  ])("leaves no COPY open: %s", async (_, messages) => {
    const ours = await open();
    await ours.exchange(query("create temp table left_open (x int)"));
    ours.send(...messages);
    ours.end();
    expect((await ours.untilClosed()).at(-1)).toBe("CopyInResponse");
  });

  test("has all run that it sent before it left", async () => {
    const other = await open();
    await other.exchange(query("create table kept (x int)"));
    for (let round = 0; round < 5; round++) {
      const ours = await open();
      // Names have to be read before the next command of anybody.
      await other.exchange(query("create temp table if not exists changed (x int)"), query("drop table changed"));
      ours.send(query("insert into kept values (1)"), { type: "Terminate" });
      ours.end();
      await ours.untilClosed();
    }
    const counted = query("select from kept having count(*) = 5");
    while (!(await other.exchange(counted)).includes("SELECT 1")) await Bun.sleep(20);
    other.end();
  });
});

test("the error for a name that is not prepared tells drivers by its routine to prepare again", async () => {
  const tell = (message: BackendMessage) =>
    message.type === "ErrorResponse" ? `${message.fields.C} ${message.fields.R}` : message.type;
  const theirs = await connectWire({ ...target, tell });
  const ours = await open({ tell });
  for (const messages of [
    [bind("nosuch"), sync],
    [bind(), sync],
    [execute("nosuch"), sync],
    [{ type: "Describe", kind: "portal", name: "nosuch" } as const, sync],
  ]) {
    expect(await ours.exchange(...messages)).toEqual(await theirs.exchange(...messages));
  }
  ours.end();
  theirs.end();
});

test("what must come first in its batch does, though names were read before it", async () => {
  const ours = await open();
  await ours.exchange(parse("select 1", "s"), sync);
  await Bun.sleep(limits.catalogRefreshMs + 100);
  const close: FrontendMessage = { type: "Close", kind: "statement", name: "s" };
  expect(await ours.exchange(close, parse("vacuum pg_catalog.pg_inherits"), bind(), execute(), sync)).toContain(
    "VACUUM",
  );
  ours.end();
});

describe("COPY FROM STDIN", () => {
  const copy = "copy numbers from stdin";
  const data = (text: string): FrontendMessage => ({ type: "CopyData", data: Buffer.from(text) });
  const done: FrontendMessage = { type: "CopyDone" };
  const run = (text: string) => [parse(text), bind(), execute()];
  const told = ["RowDescription", "DataRow", "SELECT 1", "ReadyForQuery", "LISTEN"];
  /** How many ReadyForQuery come is what is tested: the end is told by another word. */
  const answered = async (ours: Awaited<ReturnType<typeof open>>, ...messages: FrontendMessage[]) => {
    ours.send(...messages, query("select 2, 3"), query("listen numbers"));
    const answers = await ours.until("LISTEN");
    return answers.slice(0, answers.indexOf("LISTEN") + 1);
  };
  const copying = async () => {
    const ours = await open();
    await ours.exchange(query("create temp table numbers (n int)"));
    return ours;
  };

  test.each<[string, FrontendMessage[], string[]]>([
    [
      "two in one text, and a Sync in the second",
      [query(`${copy}; ${copy}`), data("1\n"), done, sync, data("2\n"), done],
      ["CopyInResponse", "COPY 1", "CopyInResponse", "COPY 1", "ReadyForQuery"],
    ],
    [
      "a Sync before the data",
      [...run(copy), sync, data("1\n"), done, sync],
      ["ParseComplete", "BindComplete", "CopyInResponse", "COPY 1", "ReadyForQuery"],
    ],
    [
      "thousands of Syncs",
      [query(copy), ...Array<FrontendMessage>(10_050).fill(sync), data("1\n"), done],
      ["CopyInResponse", "COPY 1", "ReadyForQuery"],
    ],
    [
      "data that fails once it is ended",
      [...run(copy), sync, data("x\n"), sync, done, sync],
      ["ParseComplete", "BindComplete", "CopyInResponse", "ERROR 22P02", "ReadyForQuery"],
    ],
    [
      "a table that is not there",
      [...run("copy nosuch from stdin"), sync, data("1\n"), done],
      ["ParseComplete", "BindComplete", "ERROR 42P01", "ReadyForQuery"],
    ],
  ])("with %s: what is sent next gets its own answers", async (_, messages, answers) => {
    const ours = await copying();
    expect(await answered(ours, ...messages)).toEqual([...answers, ...told]);
    ours.end();
  });

  test.each<[string, FrontendMessage[]]>([
    ["simple", [query(copy)]],
    ["extended", [...run(copy), sync]],
  ])("%s, failed with a Sync behind the data: what is sent next gets its own answers", async (_, start) => {
    const ours = await copying();
    await ours.exchange(...start.slice(0, -1));
    ours.send(...start.slice(-1));
    await ours.until("CopyInResponse");
    // More than the target reads before it fails.
    ours.send(data("x\n"), data("1\n".repeat(100_000)), sync);
    await ours.until("ReadyForQuery");
    expect((await answered(ours)).slice(-told.length)).toEqual(told);
    ours.end();
  });

  test.each<[string, FrontendMessage[], string[]]>([
    ["a query", [query("select 1")], ["ReadyForQuery", "ERROR 25P02", "ReadyForQuery"]],
    ["more data", [data("1\n"), done, query("rollback")], ["ReadyForQuery", "ROLLBACK", "ReadyForQuery"]],
    ["a Sync", [sync, query("rollback")], ["ReadyForQuery", "ReadyForQuery", "ROLLBACK", "ReadyForQuery"]],
  ])("%s may come between its error and the ReadyForQuery", async (_, messages, answers) => {
    const ours = await copying();
    await ours.exchange(query("begin"));
    // The target has the files of its indexes to remove before it is ready.
    const columns = Array.from({ length: 200 }, (_, index) => `c${index} int unique`);
    await ours.exchange(query(`create temp table made (${columns.join()})`));
    ours.send(query(copy));
    await ours.until("CopyInResponse");
    ours.send(data("x\n"));
    expect(await ours.until("ERROR 22P02")).toEqual(["ERROR 22P02"]);
    ours.send(...messages, query("rollback"), query("listen numbers"));
    const after = await ours.until("LISTEN");
    expect(after.slice(0, answers.length)).toEqual(answers);
    ours.end();
  });

  test("a query in the middle of the data ends the session, as on the target", async () => {
    const ours = await copying();
    ours.send(query(copy));
    await ours.until("CopyInResponse");
    ours.send(data("1\n"), query("select 1"));
    expect(await ours.untilClosed()).toEqual(["FATAL 08P01"]);
  });
});

test("a client is told its backend's process id", async () => {
  const ours = await open();
  const own = query(`select 1 from pg_stat_activity where pid = pg_backend_pid() and pid = ${ours.processId}`);
  expect(await ours.exchange(own)).toContain("SELECT 1");
  ours.end();
});

test("a client that takes its leave before it has said anything is let go without a word", async () => {
  const received: unknown[] = [];
  const socket = connect(gateway.endpoint.port, "127.0.0.1");
  socket.on("data", (chunk) => received.push(chunk));
  socket.write(Buffer.from("5800000004", "hex"));
  await once(socket, "close");
  expect(received).toEqual([]);
});

test("a notification bears the process id that its sender was given, also after that session ended", async () => {
  const ours = await open();
  const other = await open();
  expect(await ours.exchange(query("listen told; notify told"))).toEqual([
    ...["LISTEN", "NOTIFY", `notified by ${ours.processId}`, "ReadyForQuery"],
  ]);
  await other.exchange(query("notify told"));
  other.end();
  expect(await ours.exchange(query("select 1"))).toContain(`notified by ${other.processId}`);
  ours.end();
});

test.each([
  ["set client_encoding to 'LATIN1'", "client_encoding"],
  ["set names 'euc_jp'", "client_encoding"],
  ["select 1; set standard_conforming_strings to off", "standard_conforming_strings"],
  ["set local standard_conforming_strings = 'no'", "standard_conforming_strings"],
  ["select set_config('client_encoding', 'SJIS', false)", "client_encoding"],
  ["select set_config('Standard_Conforming_Strings', 'off', false)", "standard_conforming_strings"],
])("%s fails, and the session reads text as before", async (text, name) => {
  const ours = await open();
  expect(await ours.exchange(query(text))).toEqual(["ERROR 0A000", "ReadyForQuery"]);
  if (!text.includes(";"))
    expect(await ours.exchange(parse(text), bind(), execute(), sync)).toEqual([
      ...["ParseComplete", "ERROR 0A000", "ReadyForQuery"],
    ]);
  expect(await ours.exchange(query(`set ${name} to default`))).toEqual(["SET", "ReadyForQuery"]);
  // PostgreSQL reports each by one name of it, but for "UNICODE", which it reports as it was written.
  for (const name of ["utf-8", "UNICODE", "unicode"]) {
    expect(await ours.exchange(query(`set client_encoding to '${name}'`))).toContain("ReadyForQuery");
  }
  expect(await ours.exchange(query("select 1"))).toContain("SELECT 1");
  ours.end();
});

test("the unnamed statement outlives what is refused behind it, as on the target", async () => {
  const ours = await open();
  const direct = await connectWire(target);
  for (const refused of [
    execute("absent"),
    { type: "Describe", kind: "portal", name: "absent" } as const,
    bind("absent"),
  ]) {
    const both = await Promise.all(
      [ours, direct].map(async (client) => [
        ...(await client.exchange(parse("select 1"), refused, sync)),
        ...(await client.exchange(bind(), execute(), sync)),
      ]),
    );
    expect(both[0]).toEqual(both[1] ?? []);
    expect(both[0]?.slice(-2)).toEqual(["SELECT 1", "ReadyForQuery"]);
  }
  ours.end();
  direct.end();
});

test("the unnamed statement outlives DEALLOCATE ALL and DISCARD ALL, named ones do not, as on the target", async () => {
  for (const text of ["deallocate all", "discard all"]) {
    const [ours, direct] = [await open(), await connectWire(target)];
    const answers = async (client: typeof ours) => [
      ...(await client.exchange(parse("select 1", "named"), parse(text), bind(), execute(), sync)),
      ...(await client.exchange(bind(), execute(), sync)),
      ...(await client.exchange(bind("named"), execute(), sync)),
    ];
    const expected = await answers(direct);
    expect(await answers(ours)).toEqual(expected);
    expect(expected).toContain("ERROR 26000");
    ours.end();
    direct.end();
  }
});

test("the unnamed statement and portal outlive the names being read again", async () => {
  const ours = await open();
  const other = await open();
  try {
    await ours.exchange(query("begin"), parse("select generate_series(1, 3)"), sync);
    await other.exchange(query("create table made_elsewhere (id int)"));
    expect(await ours.exchange(bind(), execute("", 1), sync)).toEqual([
      ...["BindComplete", "DataRow", "PortalSuspended", "ReadyForQuery"],
    ]);
    await other.exchange(query("drop table made_elsewhere"));
    expect(await ours.exchange(execute(), sync)).toEqual(["DataRow", "DataRow", "SELECT 2", "ReadyForQuery"]);
  } finally {
    ours.end();
    other.end();
  }
});

test("what is sent behind an error that a Flush brought is passed over up to the Sync, as by a target", async () => {
  for (const failing of ["select 1 / 0", "select nosuch", "selec"]) {
    const ours = await open();
    ours.send(parse(failing), bind(), execute(), { type: "Flush" });
    const code = { "select 1 / 0": "22012", "select nosuch": "42703", selec: "42601" }[failing];
    await ours.until(`ERROR ${code}`);
    ours.send(parse("select 1"), bind(), execute(), query("select 2"), { type: "Close", kind: "portal", name: "" });
    await Bun.sleep(20);
    expect(await ours.exchange(parse("select 3"), bind(), execute(), sync)).toEqual(["ReadyForQuery"]);
    expect(await ours.exchange(parse("select 4"), bind(), execute(), sync)).toContain("SELECT 1");
    ours.end();
  }
});

describe("text that is not UTF-8", () => {
  /** A message with one byte of its text changed; what follows it is sent with it. */
  const spoilt = (message: FrontendMessage, ...next: FrontendMessage[]) => {
    const writer = new MessageWriter();
    for (const one of [message, ...next]) encodeFrontendMessage(writer, one);
    const bytes = writer.take();
    bytes[bytes.indexOf("~")] = 0xff;
    return bytes;
  };
  const begun = query("begin");
  test.each<[string, FrontendMessage[], Buffer]>([
    ["of a query", [], spoilt(query("select '~'"))],
    ["of a query in a transaction", [begun], spoilt(query("select '~'"), query("commit"))],
    ["of a query in an open batch", [], spoilt(parse("select '~'"), bind(), query("select 1"), sync)],
    [
      "of a query behind a batch",
      [],
      Buffer.concat([spoilt(parse("select 1"), bind(), execute()), spoilt(query("~"))]),
    ],
    ["of a query behind a batch that fails", [], Buffer.concat([spoilt(parse("selec")), spoilt(query("~"), sync)])],
    ["of a statement", [], spoilt(parse("select '~'"), bind(), execute(), sync)],
    [
      "of a statement behind another",
      [parse("select 1"), sync],
      spoilt(parse("select '~'"), sync, bind(), execute(), sync),
    ],
    ["of a statement's name", [], spoilt(parse("select 1", "~"), sync)],
    ["of a portal's name", [], spoilt(bind("", "~"), sync)],
    ["of a portal that is executed", [begun], spoilt(execute("~"), sync, query("commit"))],
    ["of what is described", [], spoilt({ type: "Describe", kind: "statement", name: "~" }, sync)],
    ["of what is closed", [], spoilt({ type: "Close", kind: "portal", name: "~" }, sync)],
    [
      "of a parameter",
      [parse("select $1::text"), sync],
      spoilt({ ...bind(), parameters: [Buffer.from("~")] } as FrontendMessage, execute(), sync),
    ],
  ])("%s fails it as on the target, and the session goes on", async (_, before, bytes) => {
    const answersOf = async (client: Awaited<ReturnType<typeof open>>) => {
      await client.exchange(...before);
      client.sendBytes(bytes);
      client.send(query("rollback"), query("listen told"));
      const answers = await client.until("LISTEN");
      client.end();
      return answers.slice(0, answers.indexOf("LISTEN") + 1);
    };
    const direct = await answersOf(await connectWire(target));
    expect(direct).toContain("LISTEN");
    expect(await answersOf(await open())).toEqual(direct);
  });

  test("ends the session in the middle of the data of a COPY, as on the target", async () => {
    const ours = await open();
    await ours.exchange(query("create temp table numbers (n int)"));
    ours.send(query("copy numbers from stdin"));
    await ours.until("CopyInResponse");
    ours.sendBytes(spoilt(query("select '~'")));
    expect(await ours.untilClosed()).toEqual(["FATAL 08P01"]);
  });
});

describe("a function call by message", () => {
  /** Of now(). */
  const call: FrontendMessage = {
    ...{ type: "FunctionCall", functionOid: 1_299, argumentFormats: [], arguments: [], resultFormat: 0 },
  };
  test.each<[string, FrontendMessage[], string[]]>([
    ["by itself", [call], ["ERROR 0A000", "ReadyForQuery"]],
    [
      "in a transaction, which it fails",
      [query("begin"), call, query("commit")],
      ["BEGIN", "ReadyForQuery", "ERROR 0A000", "ReadyForQuery", "ROLLBACK", "ReadyForQuery"],
    ],
    [
      "behind messages without their Sync",
      [parse("select"), bind(), execute(), call],
      ["ParseComplete", "BindComplete", "DataRow", "SELECT 1", "ERROR 0A000", "ReadyForQuery"],
    ],
    ["behind an error without its Sync", [parse("selec"), call, sync], ["ERROR 42601", "ReadyForQuery"]],
  ])("is refused, %s, and the session goes on", async (_, messages, answers) => {
    const ours = await open();
    ours.send(...messages, query("listen told"));
    const received = await ours.until("LISTEN");
    expect(received.slice(0, received.indexOf("LISTEN"))).toEqual(answers);
    ours.end();
  });
});
