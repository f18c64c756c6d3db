-- What was closed by hand, as a sum: 1 no more writing, 2 no deleting, 4 no reading,
-- 8 left out of lists.
alter table repositories add column closed integer not null default 0;
alter table holdings add column closed integer not null default 0;
alter table tags add column closed integer not null default 0;

-- When it was last pulled, to some minutes.
alter table holdings add column pulled_at integer;
alter table tags add column pulled_at integer;

create index holdings_pushed on holdings (repository_id, pushed_at);
create index holdings_closed on holdings (repository_id, closed) where closed > 0;
create index uploads_by on uploads (started_by);

-- The check of the store found its bytes missing or changed. Such a blob counts as one
-- that is not there, until it is pushed again.
alter table blobs add column damaged_at integer;

-- Bytes of the blobs that a repository has, and its tags.
create table usage (
	repository_id integer primary key references repositories (id),
	bytes         integer not null,
	tags          integer not null
) strict;

insert into usage (repository_id, bytes, tags)
	select r.id,
		coalesce((select sum(b.size) from links l join blobs b on b.id = l.blob_id where l.repository_id = r.id), 0),
		(select count(*) from tags t where t.repository_id = r.id)
	from repositories r;

-- What became of a repository's manifests and tags: kind is push, tag, untag, delete,
-- restore or purge; tag is '' where the manifest itself is meant. journaled is 1 once the
-- blob store knows of it too, from which the catalog can be made again.
create table history (
	id            integer primary key,
	repository_id integer not null references repositories (id),
	kind          text not null,
	tag           text not null,
	digest        text not null,
	at            integer not null,
	caused_by     text not null,
	journaled     integer not null default 0
) strict;

create index history_tag on history (repository_id, tag, id);
create index history_journal on history (id) where journaled = 0;
create index history_at on history (at);

insert into history (repository_id, kind, tag, digest, at, caused_by)
	select h.repository_id, 'push', '', m.digest, h.pushed_at, h.pushed_by
	from holdings h join manifests m on m.id = h.manifest_id order by h.pushed_at;
insert into history (repository_id, kind, tag, digest, at, caused_by)
	select t.repository_id, 'tag', t.name, m.digest, t.moved_at, t.moved_by
	from tags t join manifests m on m.id = t.manifest_id order by t.moved_at;

-- Manifests that were deleted and can be restored until a time; tags is the JSON list
-- of those that named it, each with what was closed of it.
create table trash (
	repository_id integer not null references repositories (id),
	manifest_id   integer not null references manifests (id),
	tags          text not null,
	closed        integer not null,
	pushed_at     integer not null,
	pushed_by     text not null,
	deleted_at    integer not null,
	deleted_by    text not null,
	until         integer not null,
	primary key (repository_id, manifest_id)
) strict, without rowid;

create index trash_manifest on trash (manifest_id);
create index trash_until on trash (until);

-- The blobs that a manifest in the trash needs; they stay as long as it does.
create table trash_needs (
	repository_id integer not null,
	blob_id       integer not null,
	manifest_id   integer not null,
	primary key (repository_id, blob_id, manifest_id),
	foreign key (repository_id, blob_id) references links (repository_id, blob_id),
	foreign key (repository_id, manifest_id) references trash (repository_id, manifest_id) on delete cascade
) strict, without rowid;

create index trash_needs_manifest on trash_needs (repository_id, manifest_id);

-- Long jobs that can go on where they were left, and what they came to.
create table jobs (
	name    text not null primary key,
	doc     text not null,
	updated integer not null
) strict, without rowid;

-- Rises with every change of principals, their secrets and what they were given, so that
-- what was looked up of them can be remembered until then.
insert into counters (name, value) values ('access', 0);
