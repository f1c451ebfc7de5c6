CREATE TABLE `approval_decisions` (
	`approval` text NOT NULL,
	`issuer` text NOT NULL,
	`subject` text NOT NULL,
	`email` text NOT NULL,
	`decision` text NOT NULL,
	`reason` text,
	`at` integer NOT NULL,
	PRIMARY KEY(`approval`, `issuer`, `subject`)
);
--> statement-breakpoint
CREATE TABLE `approvals` (
	`id` text PRIMARY KEY NOT NULL,
	`session` text NOT NULL,
	`command` integer NOT NULL,
	`issuer` text NOT NULL,
	`subject` text NOT NULL,
	`email` text NOT NULL,
	`target` text NOT NULL,
	`text` text NOT NULL,
	`digest` text NOT NULL,
	`fingerprint` text NOT NULL,
	`revision` text NOT NULL,
	`from_groups` text NOT NULL,
	`count` integer NOT NULL,
	`created` integer NOT NULL,
	`expires` integer NOT NULL,
	`state` text DEFAULT 'pending' NOT NULL
);
--> statement-breakpoint
CREATE TABLE `recording_chunks` (
	`session` text NOT NULL,
	`first` integer NOT NULL,
	`last` integer NOT NULL,
	`codec` text NOT NULL,
	`data` blob NOT NULL,
	PRIMARY KEY(`session`, `first`)
);
--> statement-breakpoint
CREATE TABLE `fingerprints` (
	`identity` text NOT NULL,
	`target` text NOT NULL,
	`fingerprint` text NOT NULL,
	PRIMARY KEY(`identity`, `target`, `fingerprint`)
);
--> statement-breakpoint
CREATE TABLE `label_bindings` (
	`target` text NOT NULL,
	`database` text NOT NULL,
	`name` text NOT NULL,
	`oid` integer NOT NULL,
	`attnum` integer NOT NULL,
	PRIMARY KEY(`target`, `database`, `name`)
);
--> statement-breakpoint
CREATE TABLE `seals` (
	`n` integer PRIMARY KEY NOT NULL,
	`session` text NOT NULL,
	`events` integer NOT NULL,
	`head` blob NOT NULL,
	`previous` blob NOT NULL,
	`hash` blob NOT NULL,
	`signature` blob
);
--> statement-breakpoint
CREATE UNIQUE INDEX `seals_session_unique` ON `seals` (`session`);--> statement-breakpoint
CREATE TABLE `sessions` (
	`id` text PRIMARY KEY NOT NULL,
	`gateway` text NOT NULL,
	`issuer` text NOT NULL,
	`subject` text NOT NULL,
	`email` text NOT NULL,
	`kind` text NOT NULL,
	`target` text NOT NULL,
	`opened_at` integer NOT NULL,
	`closed_at` integer,
	`close_reason` text,
	`commands` integer DEFAULT 0 NOT NULL,
	`verdicts` text DEFAULT ',' NOT NULL,
	`events` integer DEFAULT 0 NOT NULL,
	`head` blob NOT NULL
);
--> statement-breakpoint
CREATE INDEX `sessions_opened` ON `sessions` (`opened_at`);--> statement-breakpoint
CREATE INDEX `sessions_identity` ON `sessions` (`issuer`,`subject`);