import { afterAll, describe, expect, setSystemTime, test } from "bun:test";
import { generateKeyPairSync, sign } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { type Client, createClient } from "@libsql/client";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { sessionOpened } from "../../scripts/session-stand-ins.ts";
import type { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { extend, genesis } from "./chain.ts";
import { readEvents, verifySession } from "./reader.ts";
import { noSeal, sealHash } from "./seal.ts";
import { obtainSigningKey, readSigningKey } from "./signing-key.ts";
import { Recording } from "./writer.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-recording-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const notice = (n: number) => ({ type: "notice" as const, at: n, command: null, fields: { M: `n${n}` } });
const url = (name: string) => `file:${join(folder, `${name}.db`)}`;

test("what is committed is read back in order, and verifies", async () => {
  const recording = await Recording.open({ url: url("a"), durability: "strict", gateway: "g" });
  const session = recording.session(sessionOpened("s1"));
  for (let n = 1; n <= 500; n++) session.append(notice(n));
  await session.committed();
  await session.close({ type: "session.closed", at: 2_000, reason: "client" });
  const events = [];
  for await (const event of readEvents(recording.calls, "s1")) events.push(event);
  expect(events).toHaveLength(502);
  expect(events[250]).toEqual(notice(250));
  expect(await verifySession(recording.calls, "s1")).toEqual({ ok: true, events: 502 });
  expect((await recording.calls.getSession("s1"))?.closeReason).toBe("client");
  await recording.close();
});

test("what is to be recorded is written between questions to the store, however many wait", async () => {
  const recording = await Recording.open({ url: url("asked"), durability: "group", gateway: "g" });
  const approval = {
    ...{ session: "s", command: 1, issuer: "https://idp", subject: "ann", email: "", target: "db", text: "x" },
    ...{ digest: "", fingerprint: "", revision: "", from: ["dba"], count: 1, created: 1, expires: 2 },
  };
  for (let n = 0; n < 1_000; n++) void recording.calls.createApproval({ ...approval, id: `a${n}` });
  const session = recording.session(sessionOpened("s"));
  await recording.calls.getSession("s");
  let answered = 0;
  const all = Array.from({ length: 100 }, () => recording.calls.listApprovals({ limit: 1_000 }).then(() => answered++));
  session.append(notice(1));
  const beside = createClient({ url: url("asked") });
  const recorded = async () => (await beside.execute("select events from sessions")).rows[0]?.events;
  while ((await recorded()) !== 2) await Bun.sleep(5);
  expect(answered).toBeLessThan(50);
  await Promise.all(all);
  beside.close();
  await session.close({ type: "session.closed", at: 2_000, reason: "client" });
  await recording.close();
});

test("an event that is changed or taken out is found", async () => {
  const recording = await Recording.open({ url: url("b"), durability: "strict", gateway: "g" });
  for (const id of ["changed", "shortened"]) {
    const session = recording.session(sessionOpened(id));
    session.append(notice(1));
    // A question to the store has what was recorded before it written.
    expect((await recording.calls.getSession(id))?.events).toBe(2);
    session.append(notice(2));
    await session.close({ type: "session.closed", at: 2_000, reason: "client" });
  }
  await recording.close();
  const client = createClient({ url: url("b") });
  await client.execute(
    "update recording_chunks set data = replace(cast(data as text), 'n1', 'nX') where session = 'changed'",
  );
  await client.execute(
    "delete from recording_chunks where session = 'shortened' and last = (select max(last) from recording_chunks where session = 'shortened')",
  );
  client.close();
  const again = await Recording.open({ url: url("b"), durability: "strict", gateway: "g" });
  expect((await verifySession(again.calls, "changed")).ok).toBe(false);
  expect((await verifySession(again.calls, "shortened")).problem).toContain("4 events were recorded, 2 are there");
  await again.close();
});

describe("a store that somebody rewrote, heads and all", () => {
  const rewritten = async (name: string, change: (client: Client) => Promise<unknown>) => {
    const recording = await Recording.open({ url: url(name), durability: "strict", gateway: "g" });
    for (const id of ["one", "two", "three"]) {
      const session = recording.session(sessionOpened(id));
      session.append(notice(1));
      await session.close({ type: "session.closed", at: 2_000, reason: "client" });
    }
    await recording.close();
    const client = createClient({ url: url(name) });
    await change(client);
    client.close();
    const again = await Recording.open({ url: url(name), durability: "strict", gateway: "g" });
    const problem = async (id: string) => (await verifySession(again.calls, id, again.publicKey)).problem;
    const problems = { one: await problem("one"), two: await problem("two"), three: await problem("three") };
    await again.close();
    return problems;
  };
  /** Events of "one" with another notice, under the head that they lead to. */
  const forged = () => {
    const closed = { type: "session.closed", at: 2_000, reason: "client" };
    const lines = [sessionOpened("one"), notice(9), closed].map((event) => JSON.stringify(event));
    return { lines, head: lines.reduce(extend, genesis("one")) };
  };
  const forge = async (client: Client) => {
    const { lines, head } = forged();
    await client.execute("delete from recording_chunks where session = 'one'");
    const data = Buffer.from(`${lines.join("\n")}\n`);
    await client.execute({ sql: "insert into recording_chunks values ('one', 1, 3, 'raw', ?)", args: [data] });
    await client.execute({ sql: "update sessions set head = ? where id = 'one'", args: [head] });
    return head;
  };

  test("nothing changed: all verify", async () => {
    expect(await rewritten("r0", async () => undefined)).toEqual({ one: undefined, two: undefined, three: undefined });
  });
  test("events and head changed together differ from the seal", async () => {
    expect((await rewritten("r1", forge)).one).toBe("the events are not those that were sealed");
  });
  test("a seal changed with them no longer fits its hash, or the next seal, or the key", async () => {
    const seal = async (client: Client, hash: Buffer | undefined, signature: Buffer | undefined) => {
      const head = await forge(client);
      await client.execute({ sql: "update seals set head = ? where n = 1", args: [head] });
      const own = hash ?? sealHash(noSeal, "one", 3, head);
      if (hash === undefined) await client.execute({ sql: "update seals set hash = ? where n = 1", args: [own] });
      if (signature) await client.execute({ sql: "update seals set signature = ? where n = 1", args: [signature] });
    };
    expect((await rewritten("r2", (client) => seal(client, Buffer.alloc(1), undefined))).one).toBe(
      "the seal was changed",
    );
    const found = await rewritten("r3", (client) => seal(client, undefined, undefined));
    expect(found.one).toBe("the seal's signature is not this gateway's");
    expect(found.two).toBe("the seal before it (1) was changed");
    const { privateKey } = generateKeyPairSync("ed25519");
    const signature = sign(null, sealHash(noSeal, "one", 3, forged().head), privateKey);
    const other = await rewritten("r4", (client) => seal(client, undefined, signature));
    expect(other.one).toBe("the seal's signature is not this gateway's");
    const bare = await rewritten("r5", (client) => client.execute("update seals set signature = null"));
    expect(bare.one).toBe("the seal is not signed");
  });
  test("the newest session, taken out with its seal under its gateway, leaves a gap once that seals another", async () => {
    const recording = await Recording.open({ url: url("newest"), durability: "strict", gateway: "g" });
    const close = (session: ReturnType<Recording["session"]>) =>
      session.close({ type: "session.closed", at: 2_000, reason: "client" });
    for (const id of ["one", "two"]) await close(recording.session(sessionOpened(id)));
    const client = createClient({ url: url("newest") });
    for (const [table, column] of [
      ["sessions", "id"],
      ["recording_chunks", "session"],
      ["seals", "session"],
    ])
      await client.execute(`delete from ${table} where ${column} = 'two'`);
    client.close();
    await close(recording.session(sessionOpened("three")));
    expect((await verifySession(recording.calls, "three", recording.publicKey)).problem).toBe(
      "the seal before it (2) is missing: a session was taken out",
    );
    await recording.close();
  });
  test("a session that was taken out leaves a gap, and one without its seal is told", async () => {
    const found = await rewritten("r6", async (client) => {
      for (const [table, column] of [
        ["sessions", "id"],
        ["recording_chunks", "session"],
        ["seals", "session"],
      ]) {
        await client.execute(`delete from ${table} where ${column} = 'two'`);
      }
    });
    expect(found).toEqual({
      one: undefined,
      two: "the session is not in the store",
      three: "the seal before it (2) is missing: a session was taken out",
    });
    const unsealed = await rewritten("r7", (client) => client.execute("delete from seals where session = 'three'"));
    expect(unsealed.three).toBe("the session is closed and has no seal");
  });
  test("the list of sessions may not say another identity or target", async () => {
    const found = await rewritten("r8", async (client) => {
      await client.execute("update sessions set email = 'eve@example.com' where id = 'one'");
      await client.execute("update sessions set target = 'other' where id = 'two'");
    });
    expect(found.one).toContain("another identity, target or time");
    expect(found.two).toContain("another identity, target or time");
  });
  test("nor other verdicts, another count of commands or another end", async () => {
    const found = await rewritten("r9", async (client) => {
      await client.execute("update sessions set verdicts = ',deny,' where id = 'one'");
      await client.execute("update sessions set commands = 7 where id = 'two'");
      await client.execute("update sessions set close_reason = 'drain' where id = 'three'");
    });
    expect(found.one).toContain("other commands or verdicts");
    expect(found.two).toContain("other commands or verdicts");
    expect(found.three).toContain("another end");
  });
});

test("a killed gateway leaves a store that opens, verifies and has every event that was committed", async () => {
  for (let round = 0; round < 3; round++) {
    const at = url(`killed-${round}`);
    const program = `
      import { Recording } from ${JSON.stringify(join(import.meta.dir, "writer.ts"))};
      import { loweredLimits } from ${JSON.stringify(join(import.meta.dir, "../../scripts/lowered-limits.ts"))};
      // The journal's files take many turns.
      ${round > 0 ? "loweredLimits({ journalFileBytes: 2_000 });" : ""}
      const recording = await Recording.open({ url: ${JSON.stringify(at)}, durability: "strict", gateway: "g" });
      const session = recording.session(${JSON.stringify(sessionOpened("k"))});
      for (let n = 1; ; n++) {
        session.append({ type: "notice", at: n, command: null, fields: {} });
        await session.committed();
        require("node:fs").writeSync(1, n + "\\n");
      }`;
    const child = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "inherit" });
    const [seen, kept] = child.stdout.tee();
    const output = new Response(kept).text();
    // However long it takes to start: what is killed is one that writes.
    await seen.getReader().read();
    await Bun.sleep(round * 150);
    child.kill("SIGKILL");
    await child.exited;
    const acknowledged = Number((await output).trim().split("\n").at(-1));
    expect(acknowledged).toBeGreaterThan(0);
    const recording = await Recording.open({ url: at, durability: "strict", gateway: "g" });
    const check = await verifySession(recording.calls, "k");
    expect(check.ok).toBe(true);
    // opened + acknowledged (+ at most one in flight) + closed as interrupted
    expect(check.events).toBeGreaterThanOrEqual(acknowledged + 2);
    expect((await recording.calls.getSession("k"))?.closeReason).toBe("interrupted");
    await recording.close();
  }
}, 30_000);

test("a gateway that was killed between a session's end and its seal leaves one end, which is sealed as it was", async () => {
  const recording = await Recording.open({ url: url("unsealed"), durability: "strict", gateway: "g" });
  for (const id of ["before", "ended", "unreadable"]) {
    await recording.session(sessionOpened(id)).close({ type: "session.closed", at: 2_000, reason: "client" });
  }
  await recording.close();
  const client = createClient({ url: url("unsealed") });
  const [ended, unreadable] = ["session in ('ended', 'unreadable')", "session = 'unreadable'"];
  await client.execute(`delete from seals where ${ended}`);
  await client.execute("update sessions set closed_at = null, close_reason = null where id in ('ended', 'unreadable')");
  await client.execute(`update recording_chunks set codec = 'zstd' where ${unreadable}`);
  client.close();
  const again = await Recording.open({ url: url("unsealed"), durability: "strict", gateway: "g" });
  expect(await verifySession(again.calls, "ended", again.publicKey)).toEqual({ ok: true, events: 2 });
  expect(await again.calls.getSession("ended")).toMatchObject({ closedAt: 2_000, closeReason: "client" });
  // It starts whatever it finds, and verify tells.
  expect(await again.calls.getSession("unreadable")).toMatchObject({ closeReason: "interrupted" });
  expect(await verifySession(again.calls, "unreadable", again.publicKey)).toMatchObject({ ok: false });
  await again.close();
});

test("the reason that an approver gives is kept without secrets", async () => {
  const recording = await Recording.open({ url: url("reason"), durability: "group", gateway: "g" });
  const { calls } = recording;
  const words = { text: "t", digest: "d", fingerprint: "f", revision: "r", target: "db" };
  const held = { id: "a", session: "s", command: 1, issuer: "i", subject: "ann", email: "ann@example.com", ...words };
  await calls.createApproval({ ...held, from: ["dba"], count: 2, created: 1, expires: 3 });
  const decide = (subject: string, reason: string) =>
    calls.decideApproval({
      ...{ id: "a", decision: "approve", at: 2, by: { issuer: "i", subject, email: `${subject}@example.com` }, reason },
    });
  await decide("bob", "as agreed");
  await decide("cat", "by dblink, password=hunter2hunter2 as before");
  expect((await calls.getApproval("a"))?.decisions.map(({ reason }) => reason).sort()).toEqual([
    "as agreed",
    "by dblink, password=<redacted> as before",
  ]);
  await recording.close();
});

test("a store that is a file has one writer, by whatever name, until it ends", async () => {
  const first = await Recording.open({ url: url("sole"), durability: "group", gateway: "g" });
  const path = url("sole").slice("file:".length);
  const link = `${dirname(path)}-link`;
  symlinkSync(dirname(path), link);
  const busy = expect.objectContaining({ code: "store.unavailable", hint: expect.stringContaining("drains") });
  const fileLink = `${path}-link`;
  symlinkSync(path, fileLink);
  for (const name of [url("sole"), `file:${join(link, basename(path))}`, `file:${fileLink}`]) {
    await expect(Recording.open({ url: name, durability: "group", gateway: "other" })).rejects.toEqual(busy);
  }
  // A link that was there before its store.
  const early = `file:${path}-early`;
  symlinkSync(`${path}-late`, `${path}-early`);
  const byLink = await Recording.open({ url: early, durability: "strict", gateway: "g" });
  for (const name of [early, `file:${path}-late`]) {
    await expect(Recording.open({ url: name, durability: "strict", gateway: "g" })).rejects.toEqual(busy);
  }
  await byLink.close();
  symlinkSync(join(folder, "none", "store.db"), `${path}-nowhere`);
  await expect(Recording.open({ url: `file:${path}-nowhere`, durability: "strict", gateway: "g" })).rejects.toEqual(
    expect.objectContaining({ code: "store.unavailable", message: expect.stringContaining("is a link to where") }),
  );
  const session = first.session(sessionOpened("goes-on"));
  await session.close({ type: "session.closed", at: 1, reason: "client" });
  expect(await verifySession(first.calls, "goes-on")).toMatchObject({ ok: true });
  await first.close();
  const second = await Recording.open({ url: url("sole"), durability: "group", gateway: "other" });
  await second.close();
  rmSync(link);
});

test("a signing key that is none is refused by name, and one that is not there is made for its owner alone", () => {
  const path = join(folder, "signing.key");
  expect(readSigningKey(path)).toBeUndefined();
  const made = obtainSigningKey(path);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readSigningKey(path)?.equals(made)).toBe(true);
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  for (const text of ["no key", privateKey.export({ type: "pkcs8", format: "pem" })]) {
    writeFileSync(path, text);
    expect(() => obtainSigningKey(path)).toThrow(
      expect.objectContaining({ code: "config.invalid", message: expect.stringContaining(`${path} is no Ed25519`) }),
    );
  }
});

test("a store that cannot be used says why, and by which code", async () => {
  const at = url("later");
  const made = await Recording.open({ url: at, durability: "group", gateway: "g" });
  await made.close();
  const client = createClient({ url: at });
  await client.execute("insert into __drizzle_migrations (hash, created_at) values ('x', 9999999999999)");
  client.close();
  const [key, inner, text] = [join(folder, "no.key"), join(folder, "inner.db"), join(folder, "text.db")];
  writeFileSync(key, "no key");
  mkdirSync(inner);
  writeFileSync(text, "SQLite format 3\0 and no more of it");
  const failure = async (options: { url: string; signingKey?: string }) =>
    Recording.open({ durability: "group", gateway: "g", ...options }).then(
      () => "none",
      ({ code, message, hint }: GatewayError) => [code, message, hint],
    );
  const saying = (words: string) => expect.stringContaining(words);
  expect(await failure({ url: at })).toEqual(["store.unavailable", saying("9999999999999"), saying("later version")]);
  expect(await failure({ url: url("no-key"), signingKey: key })).toEqual([
    ...["config.invalid", saying("is no Ed25519 private key"), undefined],
  ]);
  expect(await failure({ url: `file:${inner}` })).toEqual([
    "store.unavailable",
    saying("no file"),
    saying("store.url"),
  ]);
  expect(await failure({ url: `file:${text}` })).toEqual([
    ...["store.unavailable", saying("the store cannot be used: SQLITE_"), undefined],
  ]);
});

test.each(["strict", "group"] as const)(
  "a store's log that is cut while it is written is told within moments (%s)",
  async (durability) => {
    const name = `cut-${durability}`;
    const recording = await Recording.open({ url: url(name), durability, gateway: "g" });
    const failed = Promise.withResolvers<GatewayError>();
    recording.onFailure(failed.resolve);
    const session = recording.session(sessionOpened("s"));
    await recording.calls.getSession("s");
    truncateSync(join(folder, `${name}.db-wal`), 0);
    const beginMs = Date.now();
    const writing = setInterval(() => recording.failure ?? session.append(notice(1)), 10);
    const told = await Promise.race([failed.promise, Bun.sleep(5_000)]);
    expect(String(told?.cause)).toContain(`${name}.db-wal was cut`);
    clearInterval(writing);
    expect(Date.now() - beginMs).toBeLessThan(3_000);
    await recording.close();
  },
);

test("many sessions share commits", async () => {
  const recording = await Recording.open({ url: url("c"), durability: "strict", gateway: "g" });
  const all = Array.from({ length: 8 }, (_, index) => recording.session(sessionOpened(`m${index}`)));
  await Promise.all(
    all.map(async (session) => {
      for (let n = 1; n <= 100; n++) {
        session.append(notice(n));
        await session.committed();
      }
      await session.close({ type: "session.closed", at: 1, reason: "client" });
    }),
  );
  for (let index = 0; index < 8; index++)
    expect(await verifySession(recording.calls, `m${index}`)).toEqual({ ok: true, events: 102 });
  await recording.close();
});

test("group does not wait, and has everything after close", async () => {
  const recording = await Recording.open({ url: url("d"), durability: "group", gateway: "g" });
  const session = recording.session(sessionOpened("s"));
  for (let n = 1; n <= 1_000; n++) {
    session.append(notice(n));
    expect(session.committed()).toBeUndefined();
  }
  await session.close({ type: "session.closed", at: 1, reason: "client" });
  expect(await verifySession(recording.calls, "s")).toEqual({ ok: true, events: 1_002 });
  await recording.close();
});

describe("a recording that cannot keep up", () => {
  const large = (bytes: number) => ({
    type: "notice" as const,
    at: 1,
    command: null,
    fields: { M: "x".repeat(bytes) },
  });

  test("takes no event past its queue's limit, and goes on once there is room", async () => {
    const recording = await Recording.open({ url: url("queue"), durability: "strict", gateway: "g" });
    const session = recording.session(sessionOpened("s"));
    using _ = loweredLimits({ recordingQueueBytesMax: 20_000 });
    session.append(large(10_000));
    expect(() => session.append(large(10_000))).toThrow(expect.objectContaining({ code: "recording.lagging" }));
    await session.committed();
    await recording.calls.getSession("s");
    session.append(large(10_000));
    await session.close({ type: "session.closed", at: 2, reason: "client" });
    expect(await verifySession(recording.calls, "s")).toEqual({ ok: true, events: 4 });
    await recording.close();
  });

  test("has the end of the session that was stopped, however full it is", async () => {
    const recording = await Recording.open({ url: url("full"), durability: "strict", gateway: "g" });
    const session = recording.session(sessionOpened("s"));
    using _ = loweredLimits({ recordingQueueBytesMax: 20_000 });
    session.append(large(19_000));
    expect(() => session.append(large(1_000))).toThrow(expect.objectContaining({ code: "recording.lagging" }));
    await session.close({ type: "session.closed", at: 2, reason: "fault", message: "x".repeat(2_000) });
    expect(await verifySession(recording.calls, "s")).toEqual({ ok: true, events: 3 });
    await recording.close();
  });

  test("in group lets nothing run once its oldest event waits longer than the limit", async () => {
    using _ = loweredLimits({ recordingLagMsMax: 300 });
    const recording = await Recording.open({ url: url("lag"), durability: "group", gateway: "g" });
    const session = recording.session(sessionOpened("s"));
    await Bun.sleep(100);
    const other = createClient({ url: url("lag") });
    const lock = await other.transaction("write");
    session.append(notice(1));
    await Bun.sleep(100);
    // Set forth, a clock stops nobody; set back, it hides nothing.
    for (const hours of [1, -2]) {
      setSystemTime(Date.now() + hours * 3_600_000);
      expect(session.committed()).toBeUndefined();
    }
    await Bun.sleep(400);
    expect(() => session.committed()).toThrow(expect.objectContaining({ code: "recording.lagging" }));
    setSystemTime();
    await lock.rollback();
    other.close();
    await session.close({ type: "session.closed", at: 2, reason: "client" });
    await recording.close();
  });
});

describe("in group, what nobody waits for", () => {
  const written = async (name: string) => {
    const client = createClient({ url: url(name) });
    const { rows } = await client.execute("select coalesce(max(last), 0) as events from recording_chunks");
    client.close();
    return Number(rows[0]?.events);
  };

  test("is written after the flush's time", async () => {
    const recording = await Recording.open({ url: url("flush"), durability: "group", gateway: "g" });
    recording.session(sessionOpened("s"));
    await Bun.sleep(20 * limits.recordingFlushMs);
    expect(await written("flush")).toBe(1);
    await recording.close();
  });

  test("is written at once when it is as large as a chunk", async () => {
    using _ = loweredLimits({ recordingFlushMs: 3_600_000, chunkBytesTarget: 10_000 });
    const recording = await Recording.open({ url: url("chunk"), durability: "group", gateway: "g" });
    const session = recording.session(sessionOpened("s"));
    session.append({ type: "notice", at: 1, command: null, fields: { M: "x".repeat(5_000) } });
    await Bun.sleep(200);
    expect(await written("chunk")).toBe(0);
    session.append({ type: "notice", at: 1, command: null, fields: { M: "x".repeat(5_000) } });
    await Bun.sleep(200);
    expect(await written("chunk")).toBe(3);
    await recording.close();
  });
});
