-- The database and the table of one shard of user logins. May be run again at any time.

IF DB_ID(N'logins') IS NULL
    CREATE DATABASE logins;
GO

-- Lets a reader see one state of the database without holding back those who write.
IF EXISTS (SELECT 1 FROM sys.databases WHERE name = N'logins' AND snapshot_isolation_state <> 1)
    ALTER DATABASE logins SET ALLOW_SNAPSHOT_ISOLATION ON;
GO

USE logins;
GO

IF OBJECT_ID(N'dbo.user_logins', N'U') IS NULL
    CREATE TABLE dbo.user_logins (
        login_id bigint IDENTITY (1, 1) NOT NULL CONSTRAINT pk_user_logins PRIMARY KEY,
        user_id int NOT NULL,
        -- UTC. Milliseconds, because PostgreSQL has no more than microseconds.
        login_time datetime2(3) NOT NULL,
        ip_address varchar(45) NULL,
        user_agent nvarchar(400) NULL,
        INDEX ix_user_logins_login_time (login_time)
    );
GO
