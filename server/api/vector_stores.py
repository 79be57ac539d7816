"""`/v1/vector_stores`: the stores, the files in them, batches of files, and searching."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from server import schemas
from server.api.deps import Caller, CallerIdentity, Server, Services
from server.api.once import Once
from server.api.pages import part_of
from server.api.respond import POLL_AFTER, listed, showing, wire
from server.api.route import WireRoute
from server.db.database import Tx
from server.vector_stores import rows
from server.vector_stores.searching import Ranking

STORE = "/{vector_store_id}"
FILE = "/{vector_store_id}/files/{file_id}"
BATCH = "/{vector_store_id}/file_batches/{batch_id}"

router = APIRouter(prefix="/v1/vector_stores", route_class=WireRoute)


@router.post("", operation_id="createVectorStore", response_model=schemas.VectorStore)
async def create(body: schemas.CreateVectorStore, caller: Caller, once: Once) -> Response:
    return await once.answer(caller.project, lambda tx: _created(tx, caller.project, body), wire)


@router.get(
    "", operation_id="listVectorStores", response_model=schemas.ListPage[schemas.VectorStore]
)
async def page(
    query: Annotated[schemas.ListQuery, Query()], caller: Caller, server: Server
) -> Response:
    return wire(await server.db.read(lambda tx: _page(tx, caller.project, query)))


@router.get(STORE, operation_id="getVectorStore", response_model=schemas.VectorStore)
async def retrieve(vector_store_id: str, caller: Caller, server: Server) -> Response:
    store = await server.db.read(lambda tx: _shown(tx, caller.project, vector_store_id))
    return wire(store, headers=POLL_AFTER)


@router.post(STORE, operation_id="modifyVectorStore", response_model=schemas.VectorStore)
async def modify(
    vector_store_id: str, body: schemas.ModifyVectorStore, caller: Caller, once: Once
) -> Response:
    def changed(tx: Tx) -> schemas.VectorStore:
        rows.modify_store(tx, rows.require_store(tx, caller.project, vector_store_id), body)
        return _shown(tx, caller.project, vector_store_id)

    return await once.answer(caller.project, changed, wire)


@router.delete(STORE, operation_id="deleteVectorStore", response_model=schemas.VectorStoreDeleted)
async def delete(vector_store_id: str, caller: Caller, server: Server) -> Response:
    await server.db.write(
        lambda tx: rows.delete_store(tx, rows.require_store(tx, caller.project, vector_store_id))
    )
    return wire(schemas.VectorStoreDeleted(id=vector_store_id))


@router.post(
    f"{STORE}/search", operation_id="searchVectorStore", response_model=schemas.SearchResults
)
async def search(
    vector_store_id: str, body: schemas.SearchVectorStore, caller: Caller, server: Server
) -> Response:
    ranking = body.ranking
    found = await server.searcher.search(
        caller.project,
        [vector_store_id],
        body.queries,
        max_results=body.most_results,
        filters=body.filters,
        ranking=Ranking(ranking.ranker or "auto", ranking.score_threshold or 0.0),
    )
    results = [
        schemas.SearchResult(
            file_id=each.file_id,
            filename=each.filename,
            score=each.score,
            attributes=each.attributes,
            content=[schemas.ContentPart(text=each.text)],
        )
        for each in found
    ]
    return wire(schemas.SearchResults(search_query=body.queries, data=results))


@router.post(
    f"{STORE}/files",
    operation_id="createVectorStoreFile",
    response_model=schemas.VectorStoreFile,
)
async def add_file(
    vector_store_id: str, body: schemas.CreateVectorStoreFile, caller: Caller, once: Once
) -> Response:
    return await once.answer(
        caller.project,
        lambda tx: rows.add_file(tx, caller.project, vector_store_id, body),
        showing(schemas.VectorStoreFile),
    )


@router.get(
    f"{STORE}/files",
    operation_id="listVectorStoreFiles",
    response_model=schemas.ListPage[schemas.VectorStoreFile],
)
async def page_of_files(
    vector_store_id: str,
    query: Annotated[schemas.VectorStoreFilesQuery, Query()],
    caller: Caller,
    server: Server,
) -> Response:
    return await _files(server, caller, vector_store_id, query)


@router.get(FILE, operation_id="getVectorStoreFile", response_model=schemas.VectorStoreFile)
async def retrieve_file(
    vector_store_id: str, file_id: str, caller: Caller, server: Server
) -> Response:
    row = await server.db.read(
        lambda tx: rows.require_store_file(tx, caller.project, vector_store_id, file_id)
    )
    return wire(schemas.VectorStoreFile.from_row(row), headers=POLL_AFTER)


@router.post(
    FILE, operation_id="updateVectorStoreFileAttributes", response_model=schemas.VectorStoreFile
)
async def modify_file(
    vector_store_id: str,
    file_id: str,
    body: schemas.ModifyVectorStoreFile,
    caller: Caller,
    once: Once,
) -> Response:
    return await once.answer(
        caller.project,
        lambda tx: tx.vector_store_files.update(
            rows.require_store_file(tx, caller.project, vector_store_id, file_id).seq,
            {"attributes": body.attributes or {}},
        ),
        showing(schemas.VectorStoreFile),
    )


@router.delete(
    FILE, operation_id="deleteVectorStoreFile", response_model=schemas.VectorStoreFileDeleted
)
async def remove_file(
    vector_store_id: str, file_id: str, caller: Caller, server: Server
) -> Response:
    await server.db.write(lambda tx: rows.remove_file(tx, caller.project, vector_store_id, file_id))
    return wire(schemas.VectorStoreFileDeleted(id=file_id))


@router.get(
    f"{FILE}/content",
    operation_id="retrieveVectorStoreFileContent",
    response_model=schemas.FileContent,
)
async def content(vector_store_id: str, file_id: str, caller: Caller, server: Server) -> Response:
    chunks = await server.searcher.content(caller.project, vector_store_id, file_id)
    return await asyncio.to_thread(_content, chunks)


@router.post(
    f"{STORE}/file_batches",
    operation_id="createVectorStoreFileBatch",
    response_model=schemas.FileBatch,
)
async def create_batch(
    vector_store_id: str, body: schemas.CreateFileBatch, caller: Caller, once: Once
) -> Response:
    return await once.answer(
        caller.project,
        lambda tx: rows.shown_batch(
            tx, rows.create_batch(tx, caller.project, vector_store_id, body.each())
        ),
        wire,
    )


@router.get(BATCH, operation_id="getVectorStoreFileBatch", response_model=schemas.FileBatch)
async def retrieve_batch(
    vector_store_id: str, batch_id: str, caller: Caller, server: Server
) -> Response:
    batch = await server.db.read(
        lambda tx: rows.shown_batch(
            tx, rows.require_batch(tx, caller.project, vector_store_id, batch_id)
        )
    )
    return wire(batch, headers=POLL_AFTER)


@router.post(
    f"{BATCH}/cancel",
    operation_id="cancelVectorStoreFileBatch",
    response_model=schemas.FileBatch,
)
async def cancel_batch(vector_store_id: str, batch_id: str, caller: Caller, once: Once) -> Response:
    return await once.answer(
        caller.project,
        lambda tx: rows.shown_batch(
            tx, rows.cancel_batch(tx, caller.project, vector_store_id, batch_id)
        ),
        wire,
    )


@router.get(
    f"{BATCH}/files",
    operation_id="listFilesInVectorStoreBatch",
    response_model=schemas.ListPage[schemas.VectorStoreFile],
)
async def page_of_batch(
    vector_store_id: str,
    batch_id: str,
    query: Annotated[schemas.VectorStoreFilesQuery, Query()],
    caller: Caller,
    server: Server,
) -> Response:
    return await _files(server, caller, vector_store_id, query, batch_id)


async def _files(
    server: Services,
    caller: CallerIdentity,
    store_id: str,
    query: schemas.VectorStoreFilesQuery,
    batch_id: str | None = None,
) -> Response:
    """A page of a store's files, or of those of one batch."""
    part, status = part_of(query), query.filter
    found = await server.db.read(
        lambda tx: rows.page_of_files(
            tx, caller.project, store_id, part, status=status, batch_id=batch_id
        )
    )
    return listed(schemas.VectorStoreFile, found)


def _content(chunks: Sequence[str]) -> Response:
    """Written in a thread of its own: there may be megabytes of it."""
    return wire(schemas.FileContent(data=[schemas.ContentPart(text=text) for text in chunks]))


def _created(tx: Tx, project: str, body: schemas.CreateVectorStore) -> schemas.VectorStore:
    store = rows.create_store(
        tx,
        project,
        rows.alike(body.file_ids, body.chunking_strategy),
        name=body.name,
        description=body.description,
        expires_after=body.expires_after,
        metadata=body.metadata,
    )
    (shown,) = rows.shown_stores(tx, [store])
    return shown


def _shown(tx: Tx, project: str, store_id: str) -> schemas.VectorStore:
    (shown,) = rows.shown_stores(tx, [rows.require_store(tx, project, store_id)])
    return shown


def _page(tx: Tx, project: str, query: schemas.ListQuery) -> schemas.ListPage[schemas.VectorStore]:
    found = tx.vector_stores.page(project, part_of(query))
    return schemas.ListPage[schemas.VectorStore].of(
        rows.shown_stores(tx, found.rows), found.has_more
    )
