import { afterAll, describe, expect, test } from "bun:test";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { sessionOpened } from "../../scripts/session-stand-ins.ts";
import { journalPaths } from "../store/file-path.ts";
import { readingOf, storeQueries } from "../store/queries.ts";
import { Journal, recordsOf } from "./journal.ts";
import { checkRecordings, openRecordings } from "./open-recordings.ts";
import { readEvents, verifySession } from "./reader.ts";
import { readJournal } from "./recovery.ts";
import { Recording } from "./writer.ts";

const root = mkdtempSync(join(tmpdir(), "sallyport-journal-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
/** Path of a store in a folder of its own. */
function newPath(): string {
  const folder = join(root, `${++folders}`);
  mkdirSync(folder);
  return join(folder, "store.db");
}

const notice = (n: number, words = `n${n}`) => ({
  ...{ type: "notice" as const, at: n, command: null, fields: { M: words } },
});
const open = (path: string, durability: "strict" | "group" = "strict") =>
  Recording.open({ url: `file:${path}`, durability, gateway: "g" });
const exist = (path: string) => journalPaths(path).map(existsSync);

/** Its files as they lie there now, elsewhere. */
function copied(path: string, parts: readonly string[], to = newPath()): string {
  for (const part of parts) if (existsSync(`${path}${part}`)) cpSync(`${path}${part}`, `${to}${part}`);
  return to;
}
const ofStore = ["", "-wal"];
const ofJournal = [".recording-0", ".recording-1"];

/** Notices of a session, once a gateway has started on the store; the recording verifies. */
async function noticesOf(path: string, session: string): Promise<number[]> {
  const recording = await open(path);
  const check = await verifySession(recording.calls, session);
  const notices: number[] = [];
  for await (const event of readEvents(recording.calls, session)) if (event.type === "notice") notices.push(event.at);
  await recording.close();
  expect(check).toMatchObject({ ok: true });
  return notices;
}
const append = (journal: Journal, event: number, json: string) => journal.append("s", event, Buffer.from(`${json}\n`));

/** As journals are written. */
function recordBytes(generation: number, sequence: number, lines: string): Buffer {
  const bytes = Buffer.alloc(20 + Buffer.byteLength(lines));
  bytes.write("SPW1");
  for (const [at, value] of [generation, sequence, bytes.length - 20].entries()) bytes.writeUInt32BE(value, 8 + at * 4);
  bytes.write(lines, 20);
  bytes.writeUInt32BE(Bun.hash.crc32(bytes.subarray(8)), 4);
  return bytes;
}

const numbers = (count: number, from = 1) => Array.from({ length: count }, (_, at) => from + at);

test("what strict has acknowledged is there after a power cut that left the store nothing of it", async () => {
  const path = newPath();
  const recording = await open(path);
  const before = copied(path, ofStore);
  const [one, two] = [recording.session(sessionOpened("one")), recording.session(sessionOpened("two"))];
  for (const n of numbers(30)) {
    one.append(notice(n));
    two.append(notice(n));
    await one.committed();
  }
  copied(path, ofJournal, before);
  const again = copied(before, [...ofStore, ...ofJournal]);
  expect(await noticesOf(before, "one")).toEqual(numbers(30));
  expect((await noticesOf(before, "two")).length).toBeGreaterThanOrEqual(29);
  // One that is killed while it recovers begins again; so does one that is configured otherwise.
  const group = await open(again, "group");
  expect(await group.calls.getSession("one")).toMatchObject({ closeReason: "interrupted", events: 32, commands: 0 });
  await group.close();
  await one.close({ type: "session.closed", at: 2, reason: "client" });
  await recording.close();
});

test("a store that has part of it, or all, gets the rest and nothing twice", async () => {
  const path = newPath();
  const recording = await open(path);
  const session = recording.session(sessionOpened("s"));
  const intent = (n: number, verdict: string) => ({
    ...{ type: "intent", at: n, judgedAt: n, command: n, via: "query", text: `select ${n}`, params: [], masks: [] },
    ...{ digest: "sha256:d", analysis: null, novel: false, verdict, rules: [], diagnostics: "full" },
    ...{ revision: "sha256:r", forwarded: true },
  });
  for (const n of numbers(10)) session.append(intent(n, "allow") as never);
  // It asks the store, which writes what there is.
  await recording.calls.getSession("s");
  const part = copied(path, ofStore);
  for (const n of numbers(10, 11)) session.append(intent(n, "deny") as never);
  await session.committed();
  await recording.calls.getSession("s");
  const whole = copied(path, [...ofStore, ...ofJournal]);
  copied(path, ofJournal, part);
  for (const left of [part, whole]) {
    const recovered = await open(left);
    expect(await verifySession(recovered.calls, "s")).toMatchObject({ ok: true, events: 22 });
    expect(await recovered.calls.getSession("s")).toMatchObject({ commands: 20, verdicts: ",allow,deny," });
    await recovered.close();
  }
  await session.close({ type: "session.closed", at: 2, reason: "client" });
  await recording.close();
});

test("its files take turns, and hold what the store may not have on disk yet", async () => {
  using _ = loweredLimits({ journalFileBytes: 4_096 });
  const path = newPath();
  const recording = await open(path);
  const session = recording.session(sessionOpened("s"));
  const sizes = new Set<number>();
  for (const n of numbers(400)) {
    session.append(notice(n, "x".repeat(n % 7 === 0 ? 5_000 : 100)));
    await session.committed();
    for (const file of journalPaths(path)) sizes.add(statSync(file).size);
  }
  const generations = journalPaths(path).map((file) => recordsOf(readFileSync(file))[0]?.generation ?? 0);
  expect(Math.abs((generations[0] ?? 0) - (generations[1] ?? 0))).toBe(1);
  expect(Math.max(...generations)).toBeGreaterThan(20);
  expect(Math.max(...sizes)).toBeLessThan(12_000);
  const left = copied(path, [...ofStore, ...ofJournal]);
  expect(await noticesOf(left, "s")).toEqual(numbers(400));
  await session.close({ type: "session.closed", at: 2, reason: "client" });
  await recording.close();
});

test("no file is begun again before the store has on disk what it held", async () => {
  using _ = loweredLimits({ journalFileBytes: 1_000 });
  const path = newPath();
  const persisted: (() => void)[] = [];
  const journal = new Journal({
    path,
    persist: () => new Promise((resolve) => persisted.push(resolve)),
    onFailure: (error) => journal.fail(error),
  });
  let events = 0;
  const fill = async () => {
    append(journal, ++events, "x".repeat(1_000));
    await journal.synced();
  };
  await fill();
  await fill();
  expect(persisted).toHaveLength(1);
  const third = fill().then(() => "written");
  expect(await Promise.race([third, Bun.sleep(100).then(() => "waiting")])).toBe("waiting");
  expect(readJournal(path)?.get("s")).toMatchObject({ first: 1, events: [expect.any(String), expect.any(String)] });
  persisted[0]?.();
  expect(await third).toBe("written");
  expect(readJournal(path)?.get("s")).toMatchObject({ first: 2 });
  await journal.close();
});

test("waits end in the order in which they began, while a turn waits for the store, too", async () => {
  using _ = loweredLimits({ journalFileBytes: 1_000 });
  const persisted: (() => void)[] = [];
  const journal = new Journal({
    path: newPath(),
    persist: () => new Promise((resolve) => persisted.push(resolve)),
    onFailure: (error) => journal.fail(error),
  });
  const order: string[] = [];
  let events = 0;
  const wait = (name: string) => {
    append(journal, ++events, "x".repeat(1_000));
    return journal.synced()?.then(() => order.push(name));
  };
  await wait("1");
  await wait("2");
  const third = wait("3");
  await Bun.sleep(20);
  const fourth = wait("4");
  persisted[0]?.();
  // It is being written now: who appends nothing waits for it all the same.
  for (let turn = 0; turn < 50 && journal.length > 0; turn++) await Promise.resolve();
  const fifth = journal.synced()?.then(() => order.push("5"));
  await Promise.all([third, fourth, fifth]);
  expect(order.slice(0, 3)).toEqual(["1", "2", "3"]);
  expect(order.slice(3)).toEqual(["4", "5"]);
  persisted[1]?.();
  await journal.close();
});

test("what nobody waits for is written once it is long", async () => {
  using _ = loweredLimits({ journalBatchBytes: 1_000 });
  const path = newPath();
  const journal = new Journal({ path, persist: async () => undefined, onFailure: (error) => journal.fail(error) });
  const events = () => readJournal(path)?.get("s")?.events.length ?? 0;
  append(journal, 1, "x".repeat(900));
  await Bun.sleep(50);
  expect(events()).toBe(0);
  append(journal, 2, "x".repeat(200));
  await Bun.sleep(50);
  expect(events()).toBe(2);
  await journal.close();
});

test("whoever waits is told that it failed, and nothing is taken afterwards", async () => {
  const path = newPath();
  const journal = new Journal({ path, persist: async () => undefined, onFailure: () => undefined });
  append(journal, 1, "{}");
  const waiting = journal.synced();
  journal.fail(new Error("the disk"));
  await expect(waiting).rejects.toThrow("the disk");
  expect(() => journal.synced()).toThrow("the disk");
  // What it has is for the next start.
  await expect(journal.close()).rejects.toThrow("the disk");
  expect(exist(path)).toEqual([true, true]);
});

test.each([
  ["taken away", (file: string) => rmSync(file)],
  ["cut", (file: string) => truncateSync(file, 0)],
])("a file that was %s acknowledges nothing", async (fault, change) => {
  const path = newPath();
  const journal = new Journal({ path, persist: async () => undefined, onFailure: (error) => journal.fail(error) });
  append(journal, 1, "{}");
  await journal.synced();
  change(journalPaths(path)[0]);
  append(journal, 2, "{}");
  await expect(journal.synced()).rejects.toThrow(`recording-0 was ${fault}`);
});

test("a file that was cut acknowledges nothing where the next record makes it as long again", async () => {
  const path = newPath();
  const journal = new Journal({ path, persist: async () => undefined, onFailure: (error) => journal.fail(error) });
  append(journal, 1, JSON.stringify("x".repeat(3 * 1_024 * 1_024)));
  await journal.synced();
  truncateSync(journalPaths(path)[0], 0);
  append(journal, 2, JSON.stringify("x".repeat(2 * 1_024 * 1_024)));
  await expect(journal.synced()).rejects.toThrow("recording-0 was cut");
});

test("a file of which the system tells nothing any more acknowledges nothing, and ends nobody else", async () => {
  const path = newPath();
  const journal = new Journal({ path, persist: async () => undefined, onFailure: (error) => journal.fail(error) });
  append(journal, 1, "{}");
  await journal.synced();
  renameSync(dirname(path), `${dirname(path)}-away`);
  symlinkSync(dirname(path), dirname(path));
  append(journal, 2, "{}");
  await expect(journal.synced()).rejects.toThrow("ELOOP");
});

describe("of what was being written", () => {
  const written = async () => {
    const path = newPath();
    const journal = new Journal({ path, persist: async () => undefined, onFailure: (error) => journal.fail(error) });
    for (const n of numbers(3)) {
      append(journal, n, `{"n":${n},"é":"${"x".repeat(50)}"}`);
      await journal.synced();
    }
    const file = readFileSync(journalPaths(path)[0]);
    await journal.close();
    return file;
  };
  const lines = (file: Buffer) => recordsOf(file).map((record) => record.lines.trim().split("\t")[1]);

  test("a record that is cut or damaged anywhere ends it; those before it count", async () => {
    const file = await written();
    expect(lines(file)).toEqual(["1", "2", "3"]);
    const [first = 0] = [recordsOf(file)[0]].map((record) => 20 + Buffer.byteLength(record?.lines ?? ""));
    for (let at = 2 * first; at < 3 * first; at++) {
      const damaged = Buffer.from(file);
      damaged[at] = (damaged[at] ?? 0) ^ 0x10;
      expect(lines(damaged)).toEqual(["1", "2"]);
      expect(lines(file.subarray(0, at))).toEqual(["1", "2"]);
    }
    expect(lines(Buffer.concat([file.subarray(0, first), Buffer.alloc(1_000)]))).toEqual(["1"]);
    expect(lines(Buffer.alloc(0))).toEqual([]);
  });

  test("records of a turn before it do not count", async () => {
    const file = await written();
    const [first = 0] = [recordsOf(file)[0]].map((record) => 20 + Buffer.byteLength(record?.lines ?? ""));
    const later = Buffer.from(file.subarray(0, first));
    later.writeUInt32BE(3, 8);
    later.writeUInt32BE(Bun.hash.crc32(later.subarray(8)), 4);
    expect(lines(Buffer.concat([later, file.subarray(first)]))).toEqual(["1"]);
  });
});

test("a journal that was away when a gateway started adds nothing to what was sealed meanwhile", async () => {
  const path = newPath();
  const recording = await open(path);
  const session = recording.session(sessionOpened("s"));
  await recording.calls.getSession("s");
  session.append(notice(1));
  const left = copied(path, ofStore);
  await session.committed();
  const journal = journalPaths(path).map((file) => readFileSync(file));
  await (await open(left)).close();
  for (const [at, file] of journalPaths(left).entries()) writeFileSync(file, journal[at] as Buffer);
  const refused = expect.objectContaining({
    message: expect.stringContaining("event 2 comes where the session is sealed"),
  });
  await expect(open(left)).rejects.toEqual(refused);
  await session.close({ type: "session.closed", at: 2, reason: "client" });
  await recording.close();
});

test("what a power cut leaves of a file that was being begun again is passed over", () => {
  const path = newPath();
  const [one, other] = journalPaths(path);
  const file = (generation: number, ...events: number[]) =>
    Buffer.concat(events.map((event, at) => recordBytes(generation, at, `s\t${event}\t{"n":${event}}\n`)));
  // The first record of turn 1 is still there, as what was written over it came to the disk only behind it.
  writeFileSync(one, file(1, 1));
  writeFileSync(other, file(2, 20, 21));
  expect(readJournal(path)?.get("s")).toMatchObject({ first: 20, events: ['{"n":20}', '{"n":21}'] });
  // Within one turn nothing can be missing.
  writeFileSync(other, file(2, 20, 22));
  expect(() => readJournal(path)).toThrow("event 22 comes where event 21 is missing");
});

test("a journal that does not go on where the store ends is refused, by --check too, until it is moved away", async () => {
  const path = newPath();
  const recording = await open(path);
  const empty = copied(path, ofStore);
  const session = recording.session(sessionOpened("s"));
  using _ = loweredLimits({ journalFileBytes: 1 });
  for (const n of numbers(5)) {
    session.append(notice(n));
    await session.committed();
  }
  copied(path, ofJournal, empty);
  await session.close({ type: "session.closed", at: 2, reason: "client" });
  await recording.close();
  const refused = expect.objectContaining({
    code: "store.unavailable",
    message: expect.stringContaining("of session s event 5 comes where event 1 is missing"),
    hint: expect.stringContaining("move them away"),
  });
  await expect(open(empty)).rejects.toEqual(refused);
  await expect(checkRecordings({ url: `file:${empty}` })).rejects.toEqual(refused);
  await expect(openRecordings({ url: `file:${empty}` })).rejects.toEqual(refused);
  for (const file of journalPaths(empty)) rmSync(file);
  await checkRecordings({ url: `file:${empty}` });
  await (await open(empty)).close();
});

test("what is shutting down acknowledges nothing that it would lose", async () => {
  const path = newPath();
  const recording = await open(path);
  const session = recording.session(sessionOpened("s"));
  const acknowledged: number[] = [];
  const running = (async () => {
    for (const n of numbers(2_000)) {
      session.append(notice(n));
      await session.committed();
      acknowledged.push(n);
    }
  })();
  await Bun.sleep(20);
  const closing = recording.close();
  expect(await Promise.race([running.catch((error) => error.code), Bun.sleep(5_000)])).toBe("session.draining");
  await closing;
  expect(acknowledged.length).toBeGreaterThan(0);
  expect((await noticesOf(path, "s")).slice(0, acknowledged.length)).toEqual(acknowledged);
});

test("what waits for a slow disk counts against the queue's limit", async () => {
  const recording = await open(newPath());
  const session = recording.session(sessionOpened("s"));
  using _ = loweredLimits({ recordingQueueBytesMax: 100_000 });
  const append = () => session.append(notice(1, "x".repeat(10_000)));
  for (let count = 0; count < 9; count++) {
    append();
    // The store has it; the journal does not, as nobody waits.
    await recording.calls.getSession("s");
  }
  expect(append).toThrow(expect.objectContaining({ code: "recording.lagging" }));
  await session.committed();
  session.append(notice(2));
  await session.close({ type: "session.closed", at: 2, reason: "client" });
  await recording.close();
});

test("there is none after an orderly end, and none in group", async () => {
  const path = newPath();
  const strict = await open(path);
  const session = strict.session(sessionOpened("s"));
  await session.committed();
  expect(exist(path)).toEqual([true, true]);
  for (const file of journalPaths(path)) expect(statSync(file).mode & 0o777).toBe(0o600);
  await session.close({ type: "session.closed", at: 2, reason: "client" });
  await strict.close();
  expect(exist(path)).toEqual([false, false]);
  const group = await open(path, "group");
  expect(exist(path)).toEqual([false, false]);
  await group.close();
});

test("who only reads sees what a killed gateway acknowledged, and changes no byte; so do they after its next start", async () => {
  const path = newPath();
  const program = `
    import { Recording } from ${JSON.stringify(join(import.meta.dir, "writer.ts"))};
    const recording = await Recording.open({ url: "file:${path}", durability: "strict", gateway: "g" });
    const session = recording.session(${JSON.stringify(sessionOpened("k"))});
    await recording.calls.getSession("k");
    recording.session(${JSON.stringify(sessionOpened("new"))});
    for (let n = 1; n <= 50; n++) {
      session.append({ type: "notice", at: n, command: null, fields: {} });
      await session.committed();
    }
    process.kill(process.pid, "SIGKILL");`;
  const child = Bun.spawn([process.execPath, "-e", program], { stdout: "ignore", stderr: "inherit" });
  await child.exited;
  const contents = () => [...ofStore, ...ofJournal].map((part) => Bun.hash(readFileSync(`${path}${part}`)));
  const before = contents();
  const db = await openRecordings({ url: `file:${path}` });
  const calls = readingOf(db);
  const listed = async () => (await storeQueries.listSessions(db, { limit: 10 })).map(({ id, events }) => [id, events]);
  expect((await listed()).sort()).toEqual([
    ["k", 51],
    ["new", 1],
  ]);
  expect(await verifySession(calls, "k")).toEqual({ ok: true, events: 51 });
  expect(await verifySession(calls, "new")).toEqual({ ok: true, events: 1 });
  expect(contents()).toEqual(before);
  const recording = await open(path);
  expect(await verifySession(calls, "k", recording.publicKey)).toEqual({ ok: true, events: 52 });
  expect((await listed()).sort()).toEqual([
    ["k", 52],
    ["new", 2],
  ]);
  // Beside one that runs its store is read alone.
  const session = recording.session(sessionOpened("live"));
  await session.committed();
  const beside = await openRecordings({ url: `file:${path}` });
  expect(await storeQueries.getSession(beside, "k")).toMatchObject({ events: 52, closeReason: "interrupted" });
  beside.$client.close();
  db.$client.close();
  await session.close({ type: "session.closed", at: 2, reason: "client" });
  await recording.close();
}, 30_000);

test("a file that cannot be read is told, not passed over", async () => {
  const path = newPath();
  await (await open(path)).close();
  mkdirSync(journalPaths(path)[1]);
  await expect(open(path)).rejects.toEqual(expect.objectContaining({ code: "store.unavailable" }));
  rmSync(journalPaths(path)[1], { recursive: true });
  await (await open(path)).close();
});
