-- This text is SQLite's. For PostgreSQL some of its words are replaced when it is
-- applied (schema.go): "integer primary key" becomes an identity column, integer
-- bigint, blob bytea, real double precision, text text collate "C", so that names
-- sort by bytes on both; strict and without rowid go away.
--
-- Times are microseconds since 1970 in UTC. Columns named doc hold JSON.

create table settings (
	name  text not null primary key,
	value blob not null
) strict, without rowid;

-- One row for each number that must rise in the order of commits.
create table counters (
	name  text not null primary key,
	value integer not null
) strict, without rowid;

create table repositories (
	id         integer primary key,
	name       text not null unique,
	created_at integer not null
) strict;

-- touched_at is when the blob was last put, linked or unlinked: garbage collection
-- spares what is younger than a push takes.
create table blobs (
	id         integer primary key,
	digest     text not null unique,
	size       integer not null,
	touched_at integer not null
) strict;

create table links (
	repository_id integer not null references repositories (id),
	blob_id       integer not null references blobs (id),
	linked_at     integer not null,
	primary key (repository_id, blob_id)
) strict, without rowid;

create index links_blob on links (blob_id);

create table uploads (
	id         text not null primary key,
	repository text not null,
	started_by text not null,
	state      blob,
	size       integer not null,
	started_at integer not null,
	touched_at integer not null
) strict, without rowid;

create index uploads_touched on uploads (touched_at);

-- A manifest is kept once, whatever repositories hold it.
create table manifests (
	id            integer primary key,
	digest        text not null unique,
	media_type    text not null,
	artifact_type text not null,
	subject       text,
	annotations   text,
	platforms     text not null,
	content_size  integer not null,
	raw           blob not null
) strict;

create index manifests_subject on manifests (subject) where subject is not null;

create table holdings (
	repository_id integer not null references repositories (id),
	manifest_id   integer not null references manifests (id),
	pushed_at     integer not null,
	pushed_by     text not null,
	primary key (repository_id, manifest_id)
) strict, without rowid;

create index holdings_manifest on holdings (manifest_id);

-- What manifests need from their repository's blobs. The references to links make a
-- blob stay while a manifest needs it.
create table needs (
	repository_id integer not null,
	blob_id       integer not null,
	manifest_id   integer not null,
	primary key (repository_id, blob_id, manifest_id),
	foreign key (repository_id, blob_id) references links (repository_id, blob_id),
	foreign key (repository_id, manifest_id) references holdings (repository_id, manifest_id) on delete cascade
) strict, without rowid;

create index needs_manifest on needs (repository_id, manifest_id);

create table tags (
	repository_id integer not null,
	name          text not null,
	manifest_id   integer not null,
	moved_at      integer not null,
	moved_by      text not null,
	primary key (repository_id, name),
	foreign key (repository_id, manifest_id) references holdings (repository_id, manifest_id) on delete cascade
) strict, without rowid;

create index tags_manifest on tags (repository_id, manifest_id);

-- An index's children by digest: a child may be deleted, and come again.
create table children (
	child_digest text not null,
	parent_id    integer not null references manifests (id) on delete cascade,
	primary key (child_digest, parent_id)
) strict, without rowid;

create index children_parent on children (parent_id);

-- The verdict of a manifest, and the work on it: due_at says from when on it must be
-- judged again, null that it need not be. A claim moves due_at into the future.
-- generation rises each time that something new makes it due.
create table verdicts (
	manifest_id integer primary key references manifests (id) on delete cascade,
	is_index    integer not null,
	decision    integer not null,
	doc         text not null,
	counts      text not null,
	due_at      integer,
	generation  integer not null,
	attempts    integer not null,
	last_error  text not null
) strict;

create index verdicts_due on verdicts (is_index, due_at) where due_at is not null;

-- Inventories, as zstd-compressed JSON.
create table layers (
	digest       text not null primary key,
	extracted_by text not null,
	doc          blob not null
) strict;

create table images (
	manifest_id  integer primary key references manifests (id) on delete cascade,
	extracted_by text not null,
	doc          blob not null
) strict;

-- Names that packages or advisories have.
create table names (
	id        integer primary key,
	name      text not null,
	ecosystem text not null,
	unique (name, ecosystem)
) strict;

create table package_keys (
	id      integer primary key,
	name_id integer not null references names (id),
	version text not null,
	unique (name_id, version)
) strict;

-- The names under which advisories for a package key may stand.
create table lookups (
	name_id integer not null references names (id),
	key_id  integer not null references package_keys (id),
	primary key (name_id, key_id)
) strict, without rowid;

create index lookups_key on lookups (key_id);

create table image_packages (
	manifest_id integer not null references images (manifest_id) on delete cascade,
	key_id      integer not null references package_keys (id),
	primary key (manifest_id, key_id)
) strict, without rowid;

create index image_packages_key on image_packages (key_id, manifest_id);

-- Where advisories came from; one row for each file that is loaded as a whole.
create table feeds (
	id          integer primary key,
	source      text not null,
	ecosystem   text not null,
	file        text not null,
	fingerprint text not null,
	as_of       integer not null,
	loaded_at   integer not null,
	newest      integer,
	records     integer not null,
	unique (source, ecosystem)
) strict;

-- as_of and partial stand where an ecosystem is covered otherwise than its feed as a whole.
create table feed_ecosystems (
	feed_id   integer not null references feeds (id) on delete cascade,
	ecosystem text not null,
	records   integer not null,
	as_of     integer,
	partial   text not null default '',
	primary key (feed_id, ecosystem)
) strict, without rowid;

-- doc is a record without what it affects, hash is of both.
create table advisories (
	id      integer primary key,
	feed_id integer not null references feeds (id) on delete cascade,
	record  text not null,
	hash    blob not null,
	doc     text not null,
	unique (feed_id, record)
) strict;

-- doc lists what one record says of one name.
create table affected (
	name_id     integer not null references names (id),
	advisory_id integer not null references advisories (id) on delete cascade,
	doc         text not null,
	primary key (advisory_id, name_id)
) strict, without rowid;

create index affected_name on affected (name_id);

-- The kept join of package keys and advisories: what of them applies (vuln.Finding),
-- and what could not be decided (vuln.Cleared).
create table findings (
	key_id    integer not null references package_keys (id),
	n         integer not null,
	undecided integer not null,
	doc       text not null,
	primary key (key_id, n)
) strict, without rowid;

-- The ids of findings that enrichments are keyed by.
create table finding_cves (
	key_id integer not null,
	n      integer not null,
	cve    text not null,
	primary key (key_id, n, cve),
	foreign key (key_id, n) references findings (key_id, n) on delete cascade
) strict, without rowid;

create index finding_cves_cve on finding_cves (cve);

create table kev (
	cve text not null primary key
) strict, without rowid;

create table epss (
	cve   text not null primary key,
	score real not null
) strict, without rowid;

create table enrichments (
	name      text not null primary key,
	as_of     integer not null,
	loaded_at integer not null,
	records   integer not null
) strict, without rowid;

create table principals (
	id         text not null primary key,
	kind       text not null,
	name       text not null unique,
	created_at integer not null
) strict, without rowid;

create table secrets (
	id           text not null primary key,
	principal_id text not null references principals (id) on delete cascade,
	hash         blob not null,
	created_at   integer not null,
	expires_at   integer
) strict, without rowid;

create index secrets_principal on secrets (principal_id);

create table assignments (
	principal_id text not null references principals (id) on delete cascade,
	role         text not null,
	scope        text not null,
	primary key (principal_id, role, scope)
) strict, without rowid;

create table events (
	id         integer not null primary key,
	at         integer not null,
	kind       text not null,
	repository text not null,
	digest     text not null,
	caused_by  text not null,
	doc        text not null
) strict;

insert into counters (name, value) values ('events', 0), ('advisories', 0);

